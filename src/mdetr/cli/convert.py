"""`mdetr convert`: convert a released checkpoint to a model folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mdetr.cli.printing import plain


class Weights(StrEnum):
    """The two sets of weights in a released file."""

    EMA = "ema"
    MODEL = "model"


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Released file, ending in .pth.")],
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
    weights: Annotated[
        Weights | None,
        typer.Option(
            help="The averaged weights (ema), which give the published figures, or the last ones (model); by "
            "default the averaged ones if the file has them."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="A folder or Hub id; by default RoBERTa's tokenizer, which comes with the package."
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Folder with gqa_answer2id.json and gqa_answer2id_by_type.json of the released annotations, "
            "which name the answers of GQA."
        ),
    ] = None,
) -> None:
    """Convert a released checkpoint to a folder with weights, configuration and processor.

    This is only needed for files of your own; the released models load by name (see mdetr models).

    Example: mdetr convert checkpoint.pth models/mine
    """
    from mdetr.checkpoints.released_file import check_released_file

    check_released_file(checkpoint)  # before the slow import of torch
    from transformers import AutoConfig

    from mdetr.checkpoints.conversion import convert as run
    from mdetr.checkpoints.conversion import has_numbered_answers

    with Console(stderr=True).status(plain(f"converting {checkpoint.name}")):
        run(checkpoint, folder, weights.value if weights else None, tokenizer, answers)
    config = AutoConfig.from_pretrained(folder)
    if has_numbered_answers(folder):
        typer.echo(
            "The file does not contain its answers in words, so they are numbered (#0, #1, ...); give the "
            "folder of the released annotations with --answers to get the words."
        )
    command = "answer" if config.answer_queries else "segment" if config.predict_masks else "ground"
    typer.echo(f"The model is in {folder}; try it with: mdetr {command} IMAGE TEXT --model {folder}")
