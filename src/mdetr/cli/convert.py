"""`mdetr convert`: convert a released checkpoint to a model folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mdetr.cli.printing import plain


class Weights(StrEnum):
    """Which of the two sets of weights in a released file is taken."""

    EMA = "ema"
    MODEL = "model"


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The released file, ending in .pth.")],
    folder: Annotated[Path, typer.Argument(help="The new folder.")],
    weights: Annotated[
        Weights | None,
        typer.Option(
            help="The averaged weights, which the published numbers come from, or the last; the averaged "
            "where the file has them, if left out."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="A folder or Hub id; RoBERTa's own, which comes with the package, if left out."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="The folder with gqa_answer2id.json and gqa_answer2id_by_type.json of the released "
            "annotations, which name GQA's answers."
        ),
    ] = None,
) -> None:
    """Turn a checkpoint of the original program into a folder with weights, configuration and processor.

    The released models need this only for files that you have; they load by their names (see mdetr models).

    Example: mdetr convert checkpoint.pth models/mine
    """
    from mdetr.checkpoints.released_file import check_released_file

    check_released_file(checkpoint)  # a wrong name is told before torch is loaded
    from transformers import AutoConfig

    from mdetr.checkpoints.conversion import convert as run
    from mdetr.checkpoints.conversion import has_numbered_answers

    with Console(stderr=True).status(plain(f"converting {checkpoint.name}")):
        run(checkpoint, folder, weights.value if weights else None, tokenizer, answers)
    config = AutoConfig.from_pretrained(folder)
    if has_numbered_answers(folder):
        typer.echo(
            "The file does not hold the words of its answers, so they are numbered (#0, #1, ...); give the "
            "folder of the released annotations with --answers to have them in words."
        )
    question = "answer" if config.answer_queries else "segment" if config.predict_masks else "ground"
    typer.echo(f"The model is in {folder}; try it with: mdetr {question} IMAGE TEXT --model {folder}")
