"""Printing of results, and escaping of users' text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mdetr.processing.detections import Grounding


def printable(text: str) -> str:
    """Escape what a terminal would interpret or cannot show: control characters, lone surrogates."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
        else character
        for character in text
    )


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Format a count: "1 record", "2,000 records"; the plural adds an s unless it is given."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def plain(text: str) -> Text:
    """Make a text that Rich prints unchanged, with brackets and :names: that are not markup or emoji."""
    return Text(printable(text))


def print_groundings(console: Console, title: str | None, groundings: Iterable[Grounding]) -> None:
    """Print a table of phrases, boxes and scores.

    Args:
        console: Console to print to.
        title: Line above the table.
        groundings: The rows.
    """
    table = Table(
        "phrase",
        "box (x0 y0 x1 y1)",
        "score",
        title=None if title is None else plain(title),
        title_justify="left",
    )
    for grounding in groundings:
        table.add_row(plain(grounding.phrase), format_box(grounding.box), f"{grounding.score:.2f}")
    console.print(table)


def format_box(box: Sequence[float]) -> str:
    """Format a box in whole pixels."""
    return " ".join(f"{value:.0f}" for value in box)
