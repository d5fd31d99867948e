"""`mdetr refer`: images and an expression in; the one box that it denotes, pictures and JSON out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import ask_all, format_box, picture_paths, read_question, write_json

if TYPE_CHECKING:
    from mdetr.inference.results import ReferringResult


def refer(
    images_and_text: Annotated[
        list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the expression.")
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Another expression for the same images; repeatable."),
    ] = None,
    model: Annotated[str, typer.Option(help="A bundled name, a folder or a Hub id.")] = "clevr-tiny",
    output: Annotated[
        Path | None,
        typer.Option(help="The picture to write; a folder where there are several images or texts."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pairs of image and text that the model sees at once.")
    ] = 8,
) -> None:
    """Find the one thing that an expression denotes.

    Example: mdetr refer shapes.png "the cube left of the metal ball" --output found.png
    """
    from mdetr.inference.grounder import Mdetr

    images, texts = read_question(images_and_text, also)
    paths = picture_paths(images, len(texts), output)
    loaded = Mdetr.from_pretrained(model)

    def ask(
        images: list[Path], texts: list[str], on_progress: Callable[[int], None]
    ) -> list[ReferringResult]:
        results = loaded.refer(images, texts, batch_size, on_progress)
        assert isinstance(results, list)
        return results

    results = ask_all(ask, images, texts)
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
