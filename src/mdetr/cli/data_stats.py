"""`mdetr data stats`: print statistics of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdetr.cli.common import JsonFile
from mdetr.cli.outputs import STDOUT, check_json_file, write_json
from mdetr.cli.printing import plain
from mdetr.wording import answer_type_in_words


def stats(
    store: Annotated[Path, typer.Argument(help="A store that mdetr data import made.")],
    json_file: JsonFile = None,
) -> None:
    """Say what a store holds, and what may be wrong with it.

    Example: mdetr data stats stores/refcoco
    """
    check_json_file(json_file)
    from mdetr.data.statistics import store_statistics
    from mdetr.data.store import Store

    found = store_statistics(Store.open(store))
    table = Table("figure", "value", title=plain(str(store)), title_justify="left")
    table.add_row("rows", f"{found.rows:,}")
    table.add_row("images", f"{found.images:,}")
    table.add_row("boxes", f"{found.boxes:,}")
    table.add_row("boxes a row (least, median, most)", _spread(found.boxes_per_row))
    table.add_row("characters of a text (least, median, most)", _spread(found.text_length))
    table.add_row("share of a text that boxes are tied to", f"{found.coverage:.1%}")
    table.add_row("rows with masks", f"{found.masks:,}")
    for name, count in sorted(found.sources.items()):
        table.add_row(plain(f"rows of {name}"), f"{count:,}")
    for name, count in sorted(found.answer_types.items()):
        table.add_row(plain(f"answers of the type {answer_type_in_words(name)}"), f"{count:,}")
    for name, count in found.problems.items():
        table.add_row(Text(name, "bold"), f"{count:,}")
    Console(stderr=json_file == STDOUT).print(table)
    if json_file is not None:
        write_json(json_file, found.to_dict())


def _spread(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
