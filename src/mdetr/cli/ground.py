"""`mdetr ground`: images and a caption in; boxes with their words, pictures and JSON out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import ask_all, format_box, picture_paths, read_question, write_json

if TYPE_CHECKING:
    from mdetr.inference.results import GroundingResult


def ground(
    images_and_text: Annotated[
        list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the text.")
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Another caption for the same images; repeatable."),
    ] = None,
    model: Annotated[str, typer.Option(help="A bundled name, a folder or a Hub id.")] = "clevr-tiny",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes that are less certain than this are left out.")
    ] = 0.7,
    output: Annotated[
        Path | None,
        typer.Option(help="The picture to write; a folder where there are several images or texts."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pairs of image and text that the model sees at once.")
    ] = 8,
) -> None:
    """Find the things that a text speaks of, and say which words each belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """
    from mdetr.inference.grounder import Mdetr

    images, texts = read_question(images_and_text, also)
    paths = picture_paths(images, len(texts), output)
    loaded = Mdetr.from_pretrained(model)

    def ask(
        images: list[Path], texts: list[str], on_progress: Callable[[int], None]
    ) -> list[GroundingResult]:
        results = loaded.ground(images, texts, threshold, batch_size, on_progress)
        assert isinstance(results, list)
        return results

    results = ask_all(ask, images, texts)
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
