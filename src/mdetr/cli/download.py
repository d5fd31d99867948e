"""`mdetr download`: download a released model before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdetr.checkpoints.registry import RELEASED, bundled_model, released_model
from mdetr.cli.models import unknown_name


def _names() -> list[str]:
    return [entry.name for entry in RELEASED]


def download(
    name: Annotated[
        str, typer.Argument(help="Name of a released model; mdetr models lists them.", autocompletion=_names)
    ],
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="MDETR_MIRROR",
            metavar="ADDRESS",
            help="Alternative address: a folder with the released files, or the file itself.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the released annotations, which name the answers of GQA; also for a "
            "model that is downloaded already.",
        ),
    ] = None,
    keep_download: Annotated[
        bool, typer.Option("--keep-download", help="Keep the released file after the conversion.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Download and convert it again.")] = False,
) -> None:
    """Download a released model and convert it; an interrupted download resumes.

    Models are stored in the Hugging Face cache, or in the folder given by MDETR_HOME.

    Example: mdetr download pretrained-r101
    """
    if bundled_model(name) is not None:
        typer.echo(f"{name} comes with the package; there is nothing to download.")
        return
    model = released_model(name)
    if model is None:
        raise unknown_name(name)
    from mdetr.checkpoints.released import get_released

    folder = get_released(model, mirror, keep_download, force, answers)
    typer.echo(f"{name} is in {folder}; try it with: mdetr {model.task.command} IMAGE TEXT --model {name}")
