"""`mdetr ground`: images and a caption in; boxes with their words, pictures and JSON out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import (
    Also,
    BatchSize,
    ImagesAndText,
    JsonFile,
    ModelName,
    Output,
    ask_all,
    format_box,
    picture_paths,
    read_question,
    write_json,
)

if TYPE_CHECKING:
    from mdetr.inference.results import GroundingResult


def ground(
    images_and_text: ImagesAndText,
    also: Also = None,
    model: ModelName = "clevr-tiny",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes that are less certain than this are left out.")
    ] = 0.7,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
) -> None:
    """Find the things that a text speaks of, and say which words each belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """
    from mdetr.inference.grounder import Mdetr

    images, texts = read_question(images_and_text, also)
    paths = picture_paths(images, len(texts), output)
    loaded = Mdetr.from_pretrained(model)
    results: list[tuple[Path, GroundingResult]] = ask_all(
        partial(loaded.ground, threshold=threshold, batch_size=batch_size), images, texts
    )
    console = Console()
    for (image, result), path in zip(results, paths, strict=True):
        table = Table(
            "phrase", "box (x0 y0 x1 y1)", "score", title=f"{image.name}: {result.text}", title_justify="left"
        )
        for found in result:
            table.add_row(found.phrase, format_box(found.box), f"{found.score:.2f}")
        if len(result):
            console.print(table)
        else:
            console.print(
                f"{image.name}: nothing found with a score above {threshold}; try a lower --threshold."
            )
        if path is not None:
            result.plot(path)
            console.print(f"picture: {path}", soft_wrap=True)
    if json_file is not None:
        write_json(json_file, results)
