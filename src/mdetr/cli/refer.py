"""`mdetr refer`: images and an expression in; the one box that it denotes, pictures and JSON out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import format_box, picture_paths, progress_over, split_images_and_text, write_json


def refer(
    images_and_text: Annotated[
        list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the expression.")
    ],
    model: Annotated[str, typer.Option(help="A bundled name, a folder or a Hub id.")] = "clevr-tiny",
    output: Annotated[
        Path | None, typer.Option(help="The picture to write; a folder where there are several images.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the model sees at once.")] = 8,
) -> None:
    """Find the one thing that an expression denotes.

    Example: mdetr refer shapes.png "the cube left of the metal ball" --output found.png
    """
    from mdetr.inference.grounder import Mdetr

    images, text = split_images_and_text(images_and_text)
    paths = picture_paths(images, output)
    loaded = Mdetr.from_pretrained(model)
    with progress_over(len(images)) as on_progress:
        results = loaded.refer(images, [text] * len(images), batch_size, on_progress)
    assert isinstance(results, list)
    console = Console()
    table = Table("image", "box (x0 y0 x1 y1)", "score", title=text, title_justify="left")
    for image, result in zip(images, results, strict=True):
        table.add_row(image.name, format_box(result.box), f"{result.score:.2f}")
    console.print(table)
    for path, result in zip(paths, results, strict=True):
        if path is not None:
            result.plot(path)
            console.print(f"picture: {path}", soft_wrap=True)
    if json_file is not None:
        write_json(json_file, images, results)
