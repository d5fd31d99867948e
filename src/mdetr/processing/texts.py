"""Validation of input texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mdetr.errors import InvalidInputError


def as_texts(text: str | Iterable[str]) -> list[str]:
    """One text or several -> a list.

    Raises:
        InvalidInputError: it is something else, such as None.
    """
    if isinstance(text, str):
        return [text]
    if not isinstance(text, Iterable) or isinstance(text, bytes | Mapping):
        raise InvalidInputError(f"Expected a text or a list of texts, found {text!r}.")
    return list(text)


def check_text(text: object) -> None:
    """See that a text can be read.

    Raises:
        InvalidInputError: it is no text, empty, or holds what is no Unicode, such as half of a character.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"Expected a text, found {type(text).__name__}.")
    if not text.strip():
        raise InvalidInputError("The text is empty; say what to look for in the image.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"The text {text[:40]!a} is no valid Unicode at character {error.start + 1}; give it in UTF-8."
        ) from None
