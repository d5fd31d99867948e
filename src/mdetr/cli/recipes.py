"""`mdetr recipes`: list the recipes of the package, or copy one to change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.printing import plain
from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write
from mdetr.training.recipe_file import describe_recipe, recipe_names, shipped_recipe


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe, to copy it into the current folder.", autocompletion=recipe_names
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of that name in the current folder.")
    ] = False,
) -> None:
    """List the recipes that come with the package, or copy one into the current folder to change it.

    Example: mdetr recipes finetune
    """
    if name is None:
        table = Table("name", "description", box=None, pad_edge=False)
        for known in recipe_names():
            table.add_row(known, plain(describe_recipe(known)))
        Console().print(table)
        return
    source = shipped_recipe(name)
    target = Path(source.name)
    if target.is_dir() or (target.exists() and not overwrite):
        raise InvalidInputError(
            f"{target} already exists; move it away{'' if target.is_dir() else ', or add --overwrite'}."
        )
    try:
        with atomic_write(target) as temporary:
            temporary.write_bytes(source.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"{target} cannot be written here ({error.strerror}).") from None
    typer.echo(f"The recipe is in {target}; edit it, then train with: mdetr train {target}")
