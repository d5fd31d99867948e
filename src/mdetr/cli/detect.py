"""`mdetr detect`: detect objects by class name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.common import (
    GROUNDING_MODEL,
    Device,
    Dtype,
    JsonFile,
    ModelName,
    Output,
    Precision,
    Threshold,
    answer_images,
    find_images,
    format_box,
    has_folder,
    load_model,
    refuse_image_as_text,
)
from mdetr.cli.outputs import plan_outputs
from mdetr.cli.printing import plain
from mdetr.errors import InvalidInputError
from mdetr.processing.texts import check_text

if TYPE_CHECKING:
    from torch import Tensor

    from mdetr.inference.results import DetectionResult


def detect(
    images_and_names: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... NAMES", help="Images or folders, and last the names, separated by commas."
        ),
    ],
    model: ModelName = GROUNDING_MODEL,
    names_file: Annotated[
        Path | None,
        typer.Option(help="A file with a name on each line, instead of NAMES; every argument is an image."),
    ] = None,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Names that the model sees at once.")] = 32,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Find the things of some named classes, each name by itself.

    Example: mdetr detect street.jpg "bus, person, bicycle" --output found.png
    """
    paths, names = _read_names(images_and_names, names_file)
    sources = find_images(paths)
    outputs = plan_outputs(sources, 1, output, json_file, has_folder(paths))
    loaded = load_model(model, device, dtype)

    from mdetr.inference.detection import ClassPrompts

    prompts = ClassPrompts(loaded.model, loaded.processor, names, batch_size)

    def ask(images: Sequence[Tensor]) -> list[list[DetectionResult]]:
        return [[loaded.detect(image, prompts, threshold)] for image in images]

    answer_images(sources, outputs, ask, _show, batch_size=1)


def _read_names(arguments: Sequence[str], file: Path | None) -> tuple[list[str], list[str]]:
    if file is None:
        if len(arguments) < 2:
            raise InvalidInputError(
                "Give at least one image and then the names, separated by commas; or a --names-file."
            )
        *images, text = arguments
        refuse_image_as_text(text)
        names = text.split(",")
    else:
        if not file.is_file():
            raise InvalidInputError(f"There is no file {file}; it should have a class name on each line.")
        images, names = list(arguments), _read_lines(file)
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not names:
        raise InvalidInputError(f"There is no name in {file or 'the last argument'}; give at least one.")
    for name in names:
        check_text(name)
    return images, names


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{file} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8."
        ) from None


def _show(console: Console, name: str, result: DetectionResult) -> None:
    if not len(result):
        line = f"{name}: none of the {len(result.names)} classes found"
        console.print(plain(line), soft_wrap=True)
        return
    table = Table("name", "box (x0 y0 x1 y1)", "score", title=plain(name), title_justify="left")
    for found in result:
        table.add_row(plain(found.name), format_box(found.box), f"{found.score:.2f}")
    console.print(table)
