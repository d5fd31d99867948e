"""`mdetr models`: nothing in; a table of the models that there are, and how to get each, out."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mdetr.errors import InvalidInputError


def models(
    name: Annotated[
        str | None, typer.Argument(help="A model, to see where it is and what to type to get it.")
    ] = None,
) -> None:
    """List the models that come with the package and the published checkpoints.

    Example: mdetr models refcoco-r101
    """
    from mdetr.checkpoints.finding import bundled_models
    from mdetr.checkpoints.registry import RELEASED

    console = Console()
    if name is None:
        table = Table(Column("name", no_wrap=True), "task", "backbone", "the paper's figures, in %", "size")
        for bundled in bundled_models():
            table.add_row(
                bundled, "grounding and answers in a world of shapes", "", "comes with the package", ""
            )
        for entry in RELEASED:
            table.add_row(entry.name, entry.task, entry.backbone, entry.figures, f"{entry.gigabytes} GB")
        console.print(table)
        console.print("How to get one: mdetr models NAME. The sizes are those of the downloads.")
        return
    if name in bundled_models():
        console.print(f"{name} comes with the package: mdetr ground IMAGE TEXT --model {name}", markup=False)
        return
    found = next((entry for entry in RELEASED if entry.name == name), None)
    if found is None:
        near = get_close_matches(name, [entry.name for entry in RELEASED], n=1)
        hint = f"did you mean {near[0]}?" if near else "mdetr models lists them."
        raise InvalidInputError(f"There is no published model {name!r}: {hint}")
    console.print(f"{found.name}: {found.task}, {found.backbone}; {found.figures}")
    for command in found.commands:
        console.print(f"  {command}", soft_wrap=True, highlight=False)
