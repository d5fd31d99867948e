"""`mdetr ground`: images and a caption in; boxes with their words, pictures and JSON out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import format_box, picture_paths, progress_over, split_images_and_text, write_json


def ground(
    images_and_text: Annotated[
        list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the text.")
    ],
    model: Annotated[str, typer.Option(help="A bundled name, a folder or a Hub id.")] = "clevr-tiny",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes that are less certain than this are left out.")
    ] = 0.7,
    output: Annotated[
        Path | None, typer.Option(help="The picture to write; a folder where there are several images.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the model sees at once.")] = 8,
) -> None:
    """Find the things that a text speaks of, and say which words each belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """
    from mdetr.inference.grounder import Mdetr

    images, text = split_images_and_text(images_and_text)
    paths = picture_paths(images, output)
    loaded = Mdetr.from_pretrained(model)
    with progress_over(len(images)) as on_progress:
        results = loaded.ground(images, [text] * len(images), threshold, batch_size, on_progress)
    assert isinstance(results, list)
    console = Console()
    for image, path, result in zip(images, paths, results, strict=True):
        table = Table(
            "phrase", "box (x0 y0 x1 y1)", "score", title=f"{image.name}: {text}", title_justify="left"
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
        write_json(json_file, images, results)
