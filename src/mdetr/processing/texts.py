"""Validation of input texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mdetr.errors import InvalidInputError


def as_texts(text: object) -> list[str]:
    """Return one or several texts as a list.

    Args:
        text: One text, or any iterable of texts.

    Returns:
        The texts, not checked one by one; see `check_text`.

    Raises:
        InvalidInputError: The argument is neither, such as None.
    """
    if isinstance(text, str):
        return [text]
    if not isinstance(text, Iterable) or isinstance(text, bytes | Mapping):
        raise InvalidInputError(f"Expected a text or a list of texts, got {text!r}.")
    return list(text)


def check_text(text: object) -> None:
    """Check that a text can be processed.

    Args:
        text: The text.

    Raises:
        InvalidInputError: It is not a string, is empty, or is not valid Unicode, such as a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"Expected a text, got {type(text).__name__}.")
    if not text.strip():
        raise InvalidInputError("The text is empty; describe what to look for in the image.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"The text {text[:40]!a} is not valid Unicode at character {error.start + 1}; give it in UTF-8."
        ) from None
