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
        str, typer.Argument(help="A released model; mdetr models lists them.", autocompletion=_names)
    ],
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="MDETR_MIRROR",
            metavar="ADDRESS",
            help="Where to take it from instead: a folder with the release's files, or the file itself.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The released annotations, which name GQA's answers; also for a model that is here already.",
        ),
    ] = None,
    keep_download: Annotated[
        bool, typer.Option("--keep-download", help="Keep the released file after it is converted.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Download and convert it again.")] = False,
) -> None:
    """Download a released model and convert it; a transfer that broke off is resumed.

    Models are kept in the Hugging Face cache, or in the folder that MDETR_HOME names.

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
