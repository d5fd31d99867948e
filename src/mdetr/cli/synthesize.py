"""`mdetr data synthesize clevr`: render scenes in CLEVR's file layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from mdetr.cli.progress import progress_bar


def synthesize(
    output: Annotated[Path, typer.Argument(help="The folder to write to; it may hold other splits.")],
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    split: Annotated[str, typer.Option(help="The name of the part: train, val, ...")] = "train",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    width: Annotated[int, typer.Option(min=32, help="Of the pictures, in pixels.")] = 240,
    height: Annotated[int, typer.Option(min=32, help="Of the pictures, in pixels.")] = 160,
    questions: Annotated[int, typer.Option(min=0, help="At most how many for a scene.")] = 0,
    look: Annotated[
        str, typer.Option(help='"home", or "unseen": cameras, lights and grounds that "home" never has.')
    ] = "home",
) -> None:
    """Make scenes of shapes with captions, referring expressions and questions.

    Questions of a split that is there without any are added to it.

    Example: mdetr data synthesize clevr shapes --scenes 1000 --seed 1 --workers 2
    """
    from mdetr.synthetic_clevr.appearance import to_look
    from mdetr.synthetic_clevr.synthesize import SynthesisOptions, ask_about_split, synthesize

    options = SynthesisOptions(
        split=split, seed=seed, width=width, height=height, questions=questions, look=to_look(look)
    )
    if questions and (output / "scenes" / f"CLEVR_{split}_scenes.json").exists():
        count = ask_about_split(output, split, questions, seed)
        typer.echo(f"Wrote {count:,} questions about the scenes that were in {output} already.")
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        bar = progress.add_task("scenes", total=scenes)
        synthesize(output, scenes, options, workers, lambda done: progress.advance(bar, done))
    typer.echo(
        f"Wrote {scenes:,} scenes to {output}; next: mdetr data import clevr {output} STORE --split {split}"
    )
