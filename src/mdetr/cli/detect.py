"""`mdetr detect`: images and names of classes in; boxes of each class, pictures and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import (
    JsonFile,
    NeededModel,
    Output,
    Threshold,
    find_images,
    finish,
    format_box,
    load_model,
    picture_paths,
    progress_over,
)
from mdetr.errors import InvalidInputError

if TYPE_CHECKING:
    from mdetr.inference.results import DetectionResult


def detect(
    images_and_names: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... NAMES", help="Images or folders, and last the names, separated by commas."
        ),
    ],
    model: NeededModel,
    names_file: Annotated[
        Path | None,
        typer.Option(help="A file with a name on each line, instead of NAMES; every argument is an image."),
    ] = None,
    threshold: Threshold = 0.7,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Names that the model sees at once.")] = 32,
) -> None:
    """Find the things of some named classes, each name by itself.

    Example: mdetr detect street.jpg "bus, traffic_light" --model models/lvis10-r101 --output found.png
    """
    paths, names = _read_names(images_and_names, names_file)
    images = find_images(paths)
    pictures = picture_paths(images, 1, output)
    loaded = load_model(model)
    with progress_over(len(images)) as on_progress:
        results = loaded.detect(
            list(images), names, threshold, batch_size=batch_size, on_progress=on_progress
        )
    finish(list(zip(images, results, strict=True)), pictures, json_file, _show)


def _read_names(arguments: Sequence[str], file: Path | None) -> tuple[list[str], list[str]]:
    if file is None:
        if len(arguments) < 2:
            raise InvalidInputError(
                "Give at least one image and then the names, separated by commas; or a --names-file."
            )
        *images, text = arguments
        names = text.split(",")
    else:
        if not file.is_file():
            raise InvalidInputError(f"There is no file {file}; it should have a class name on each line.")
        try:
            images, names = list(arguments), file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{file} is not UTF-8 text ({error}); save it in UTF-8.") from None
    return images, list(dict.fromkeys(name.strip() for name in names if name.strip()))


def _show(console: Console, image: Path, result: DetectionResult) -> None:
    table = Table("name", "box (x0 y0 x1 y1)", "score", title=image.name, title_justify="left")
    for found in result:
        table.add_row(found.name, format_box(found.box), f"{found.score:.2f}")
    console.print(table if len(result) else f"{image.name}: none of the {len(result.names)} classes found")
