"""`mdetr detect`: detect objects by class name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.inputs import Query, check_is_no_image, find_images, has_folder, read_lines
from mdetr.cli.loading import load_model
from mdetr.cli.options import (
    GROUNDING_MODEL,
    Device,
    Dtype,
    JsonFile,
    ModelName,
    Output,
    Precision,
    Threshold,
)
from mdetr.cli.outputs import plan_outputs
from mdetr.cli.prediction_run import PredictionRun
from mdetr.cli.printing import counted, format_box, plain
from mdetr.errors import InvalidInputError
from mdetr.processing.texts import check_text

if TYPE_CHECKING:
    from mdetr.inference.results import DetectionResult


def detect(
    images_and_names: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... NAMES", help="Images or folders, followed by the names, separated by commas."
        ),
    ],
    model: ModelName = GROUNDING_MODEL,
    names_file: Annotated[
        Path | None,
        typer.Option(help="File with a name on each line, instead of NAMES; all arguments are then images."),
    ] = None,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of names processed at once.")] = 32,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Detect the objects of named classes; each name is a query of its own.

    Example: mdetr detect street.jpg "bus, person, bicycle" --output found.png
    """
    paths, names = _read_names(images_and_names, names_file)
    sources = find_images(paths)
    outputs = plan_outputs(sources, 1, output, json_file, has_folder(paths))
    loaded = load_model(model, device, dtype)

    from mdetr.inference.detection import ClassPrompts

    prompts = ClassPrompts(loaded.model, loaded.processor, names, batch_size)
    query = Query(sources, [", ".join(names)], outputs)
    with PredictionRun(query) as run:
        for batch in run.batches(batch_size=1):
            for image, pair in zip(batch.images, batch.pairs, strict=True):
                result = loaded.detect(image, prompts, threshold)
                _print_result(run.console, pair.image_name, result)
                run.write(pair, result)


def _read_names(arguments: Sequence[str], file: Path | None) -> tuple[list[str], list[str]]:
    """Split the arguments into images and class names.

    Args:
        arguments: Images, followed by the names, separated by commas, unless a file has them.
        file: File with a class name on each line.

    Returns:
        The images, and the names without duplicates.

    Raises:
        InvalidInputError: There is no image or no name, or the file cannot be read.
    """
    # Take the names from the file or from the last argument
    if file is None:
        if len(arguments) < 2:
            raise InvalidInputError(
                "Give at least one image and then the names, separated by commas; or a --names-file."
            )
        *images, text = arguments
        check_is_no_image(text)
        names = text.split(",")
    else:
        if not file.is_file():
            raise InvalidInputError(f"There is no file {file}; it should have a class name on each line.")
        images, names = list(arguments), read_lines(file)

    # Drop blanks and duplicates, and check the rest
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not names:
        raise InvalidInputError(f"There is no name in {file or 'the last argument'}; give at least one.")
    for name in names:
        check_text(name)
    return images, names


def _print_result(console: Console, image_name: str, result: DetectionResult) -> None:
    if not len(result):
        line = f"{image_name}: none of the {counted(len(result.names), 'class', 'classes')} detected"
        console.print(plain(line), soft_wrap=True)
        return
    table = Table("name", "box (x0 y0 x1 y1)", "score", title=plain(image_name), title_justify="left")
    for detection in result:
        table.add_row(plain(detection.name), format_box(detection.box), f"{detection.score:.2f}")
    console.print(table)
