"""`mdetr refer`: images and an expression in; the one box that it denotes, pictures and JSON out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
    from mdetr.inference.results import ReferringResult


def refer(
    images_and_text: ImagesAndText,
    also: Also = None,
    model: ModelName = "clevr-tiny",
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
) -> None:
    """Find the one thing that an expression denotes.

    Example: mdetr refer shapes.png "the cube left of the metal ball" --output found.png
    """
    from mdetr.inference.grounder import Mdetr

    images, texts = read_question(images_and_text, also)
    paths = picture_paths(images, len(texts), output)
    loaded = Mdetr.from_pretrained(model)
    results: list[tuple[Path, ReferringResult]] = ask_all(
        partial(loaded.refer, batch_size=batch_size), images, texts
    )
    console = Console()
    table = Table("image", "expression", "box (x0 y0 x1 y1)", "score")
    for image, result in results:
        table.add_row(image.name, result.text, format_box(result.box), f"{result.score:.2f}")
    console.print(table)
    for (_, result), path in zip(results, paths, strict=True):
        if path is not None:
            result.plot(path)
            console.print(f"picture: {path}", soft_wrap=True)
    if json_file is not None:
        write_json(json_file, results)
