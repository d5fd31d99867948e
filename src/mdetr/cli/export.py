"""`mdetr export`: export a model to ONNX or OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mdetr.cli.inputs import find_images, read_lines
from mdetr.cli.options import model_names
from mdetr.cli.outputs import check_folder
from mdetr.cli.printing import plain
from mdetr.errors import InvalidInputError
from mdetr.export.layout import ExportFormat, ExportPrecision, check_export


def export(
    model: Annotated[
        str,
        typer.Argument(help="A name from mdetr models, a folder or a Hub id.", autocompletion=model_names),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to create.")],
    export_format: Annotated[
        ExportFormat, typer.Option("--format", help="Library that will run the model.")
    ] = ExportFormat.OPENVINO,
    precision: Annotated[
        ExportPrecision,
        typer.Option(
            help="fp16 halves the size of the files; int8 quarters it, computes in whole numbers, and needs "
            "--calibrate."
        ),
    ] = ExportPrecision.FP32,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES", help="Folder with some tens of images like those of your use, for int8."
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Texts like those of your use, one on each line, for int8; by default names of everyday "
            "objects.",
        ),
    ] = None,
) -> None:
    """Export a model to run in ONNX Runtime or OpenVINO, with every command and Mdetr.from_pretrained.

    Example: mdetr export photo-tiny exports/photo-tiny --format openvino
    """
    # Check everything before the model is loaded
    images = None if calibrate is None else _images_in(calibrate)
    lines = None if texts is None else _texts_in(texts)
    check_export(folder, export_format, precision, images)
    if lines is not None and images is None:
        raise InvalidInputError("--texts is for the calibration of int8; leave it out, or add --calibrate.")

    from mdetr.checkpoints.loading import load
    from mdetr.export.exporting import export_model
    from mdetr.export.quantization import Calibration

    calibration = None
    if images is not None:
        calibration = Calibration(images) if lines is None else Calibration(images, lines)
    check_folder(folder, "the model")
    loaded, processor = load(model)
    with Console(stderr=True).status(plain(f"exporting {model}")) as status:
        agreement = export_model(
            loaded,
            processor,
            folder,
            export_format,
            precision,
            calibration,
            on_step=lambda step: status.update(plain(step)),
        )
    if agreement is not None:
        typer.echo(str(agreement))
    megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    typer.echo(
        f"The model is in {folder} ({megabytes:,.1f} MB); try it with: "
        f"mdetr ground IMAGE TEXT --model {folder}"
    )


def _images_in(folder: Path) -> list[Path]:
    """List the image files of a folder.

    Args:
        folder: The folder.

    Returns:
        Its images, by name.

    Raises:
        InvalidInputError: There is no such folder, or there are no images in it.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"There is no folder {folder}; give a folder of images to calibrate with.")
    return [Path(image) for image in find_images([str(folder)])]


def _texts_in(file: Path) -> list[str]:
    """Read a file of texts, with one on each line."""
    texts = read_lines(file)
    if not texts:
        raise InvalidInputError(f"{file} has no texts; write one on each line.")
    return texts
