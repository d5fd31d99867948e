"""`mdetr convert`: a released checkpoint in, a folder that every other command reads out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class Weights(StrEnum):
    """Which of the two sets of weights in a released file is taken."""

    EMA = "ema"
    MODEL = "model"


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The released file, ending in .pth.")],
    folder: Annotated[Path, typer.Argument(help="The new folder.")],
    weights: Annotated[
        Weights,
        typer.Option(help="The averaged weights, which the published numbers come from, or the last."),
    ] = Weights.EMA,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="A folder or Hub id; RoBERTa's own, which comes with the package, if left out."),
    ] = None,
) -> None:
    """Turn a released checkpoint into a folder with weights, configuration and processor.

    Example: mdetr convert pretrained_resnet101_checkpoint.pth models/mdetr-r101
    """
    from mdetr.inference.conversion import convert as run

    with Console(stderr=True).status(f"converting {checkpoint.name}"):
        run(checkpoint, folder, weights.value, tokenizer)
    typer.echo(f"The model is in {folder}; try it with: mdetr ground IMAGE TEXT --model {folder}")
