"""`mdetr models`: list the bundled and released models, or show the details of one."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mdetr.checkpoints.registry import (
    ANNOTATIONS,
    BUNDLED,
    RELEASED,
    BundledModel,
    ReleasedModel,
    Task,
    bundled_model,
    model_names,
    nearest_name,
    released_model,
)
from mdetr.errors import InvalidInputError


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="A model, to show its figures and usage.", autocompletion=model_names),
    ] = None,
) -> None:
    """List the models that come with the package and the released ones, or show the details of one.

    Example: mdetr models refcoco-r101
    """
    console = Console()
    if name is None:
        _list(console)
        return
    bundled, released = bundled_model(name), released_model(name)
    if bundled is not None:
        details = _bundled_details(bundled)
    elif released is not None:
        details = _released_details(released)
    else:
        raise unknown_name(name)
    for label, value in details.items():
        console.print(f"{label:<13}{value}", soft_wrap=True, highlight=False, markup=False)


def unknown_name(name: str) -> InvalidInputError:
    """Make the error for a name that no model has."""
    near = nearest_name(name)
    return InvalidInputError(
        f"There is no model {name!r}: {f'did you mean {near}?' if near else 'mdetr models lists them.'}"
    )


def _list(console: Console) -> None:
    from mdetr.checkpoints.released import is_downloaded

    table = Table(
        "name", "task", "description", Column("size", justify="right"), "local", box=None, pad_edge=False
    )
    for entry in BUNDLED:
        megabytes = sum(file.stat().st_size for file in entry.folder.iterdir()) / 1e6
        table.add_row(entry.name, entry.task, entry.description, f"{megabytes:.0f} MB", "yes")
    for model in RELEASED:
        here = "yes" if is_downloaded(model) else ""
        table.add_row(model.name, model.task, model.description, f"{model.gigabytes:.1f} GB", here)
    console.print(table, highlight=False)
    console.print(
        "\nAll commands with --model take these names. Models that are not local are\n"
        "downloaded at first use, or with: mdetr download NAME\n"
        "Figures and usage: mdetr models NAME",
        highlight=False,
    )


def _bundled_details(model: BundledModel) -> dict[str, str]:
    return {
        "name": model.name,
        "task": model.task,
        "description": model.description,
        "folder": f"{model.folder}, which comes with the package",
        **_usage(model.name, model.task),
    }


def _released_details(model: ReleasedModel) -> dict[str, str]:
    from mdetr.checkpoints.cache import model_folder
    from mdetr.checkpoints.released import is_downloaded

    folder = model_folder(model.name)
    details = {
        "name": model.name,
        "task": model.task,
        "description": model.description,
        "paper": f"{model.figures} (in percent)",
        "download": f"{model.gigabytes:.1f} GB, {model.address()}",
        "folder": f"{folder}" if is_downloaded(model) else f"{folder}, once it is downloaded",
    }
    if model.has_gqa_answers:
        details["answers"] = (
            f"numbered, unless mdetr download {model.name} --answers FOLDER names the folder of {ANNOTATIONS}"
        )
    return details | _usage(model.name, model.task)


def _usage(name: str, task: Task) -> dict[str, str]:
    return {
        "Python": f'Mdetr.from_pretrained("{name}")',
        "command line": f"mdetr {task.command} IMAGE... TEXT --model {name}",
    }
