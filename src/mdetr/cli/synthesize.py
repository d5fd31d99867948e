"""`mdetr data synthesize clevr`: render scenes in CLEVR's file layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from mdetr.cli.progress import progress_bar


def synthesize(
    output: Annotated[Path, typer.Argument(help="Folder to write to; it may contain other splits.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    split: Annotated[str, typer.Option(help="Name of the split: train, val, ...")] = "train",
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = os.cpu_count() or 1,
    width: Annotated[int, typer.Option(min=32, help="Width of the images, in pixels.")] = 240,
    height: Annotated[int, typer.Option(min=32, help="Height of the images, in pixels.")] = 160,
    captions: Annotated[int, typer.Option(min=0, help="Maximum number of captions per scene.")] = 4,
    phrases: Annotated[
        int, typer.Option(min=1, help="Maximum number of phrases per caption, without those of relations.")
    ] = 4,
    questions: Annotated[int, typer.Option(min=0, help="Maximum number of questions per scene.")] = 0,
    look: Annotated[
        str, typer.Option(help='"home", or "unseen": cameras, lights and grounds that "home" never has.')
    ] = "home",
    min_objects: Annotated[int, typer.Option(min=1, help="Minimum number of objects per scene.")] = 3,
    max_objects: Annotated[int, typer.Option(min=1, help="Maximum number of objects per scene.")] = 10,
    condition: Annotated[
        str | None,
        typer.Option(help='Condition of CLEVR-CoGenT, "A" or "B": each has half the colors for cubes.'),
    ] = None,
) -> None:
    """Generate scenes with captions, referring expressions and questions.

    If the split exists without questions, questions are added to it.

    Example: mdetr data synthesize clevr shapes --scenes 1000 --seed 1 --workers 2
    """
    from mdetr.synthetic_clevr.appearance import to_look
    from mdetr.synthetic_clevr.scenes import to_condition
    from mdetr.synthetic_clevr.synthesize import SynthesisOptions, synthesize, write_questions

    options = SynthesisOptions(
        split=split,
        seed=seed,
        width=width,
        height=height,
        captions=captions,
        phrases=phrases,
        questions=questions,
        look=to_look(look),
        min_objects=min_objects,
        max_objects=max_objects,
        condition=None if condition is None else to_condition(condition),
    )
    if questions and (output / "scenes" / f"CLEVR_{split}_scenes.json").exists():
        count = write_questions(output, split, questions, seed)
        typer.echo(f"Wrote {count:,} questions about the existing scenes in {output}.")
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        bar = progress.add_task("scenes", total=scenes)
        synthesize(output, scenes, options, workers, lambda done: progress.advance(bar, done))
    typer.echo(
        f"Wrote {scenes:,} scenes to {output}; next: mdetr data import clevr {output} STORE --split {split}"
    )
