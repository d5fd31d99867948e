"""Escaping of text from users before it is printed."""

from __future__ import annotations

import unicodedata

from rich.text import Text


def printable(text: str) -> str:
    """A text with what a terminal would obey, or cannot show, spelled out: escapes, half characters."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
        else character
        for character in text
    )


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number of things: "1 record", "2,000 records"; the plural adds an s unless it is given."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def plain(text: str) -> Text:
    """A text that Rich prints as it is: brackets are no markup, and :names: are no emoji."""
    return Text(printable(text))
