"""`mdetr data stats`: print statistics of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdetr.cli.options import JsonFile
from mdetr.cli.outputs import STDOUT, check_json_file, write_json
from mdetr.cli.printing import plain
from mdetr.wording import answer_type_in_words


def stats(
    store: Annotated[Path, typer.Argument(help="Store made by mdetr data import.")],
    json_file: JsonFile = None,
) -> None:
    """Print the contents of a store, and possible problems.

    Example: mdetr data stats stores/refcoco
    """
    check_json_file(json_file)
    from mdetr.data.statistics import store_statistics
    from mdetr.data.store import Store

    statistics = store_statistics(Store.open(store))
    table = Table("figure", "value", title=plain(str(store)), title_justify="left")
    table.add_row("rows", f"{statistics.rows:,}")
    table.add_row("images", f"{statistics.images:,}")
    table.add_row("boxes", f"{statistics.boxes:,}")
    table.add_row("boxes per row (minimum, median, maximum)", _spread(statistics.boxes_per_row))
    table.add_row("characters per text (minimum, median, maximum)", _spread(statistics.text_length))
    table.add_row("fraction of the text with boxes", f"{statistics.coverage:.1%}")
    table.add_row("rows with masks", f"{statistics.masks:,}")
    for name, count in sorted(statistics.sources.items()):
        table.add_row(plain(f"rows of {name}"), f"{count:,}")
    for name, count in sorted(statistics.answer_types.items()):
        table.add_row(plain(f"answers of the type {answer_type_in_words(name)}"), f"{count:,}")
    for name, count in statistics.problems.items():
        table.add_row(Text(name, "bold"), f"{count:,}")
    Console(stderr=json_file == STDOUT).print(table)
    if json_file is not None:
        write_json(json_file, statistics.to_dict())


def _spread(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
