"""Typed access to the fields of a parsed annotation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mdetr.errors import InvalidInputError, MdetrError, MissingDependencyError
from mdetr.processing.coordinates import Span

_MISSING = object()


class Fields:
    """The fields of one JSON object, read as what they have to be.

    A field that is missing or of another kind is refused with its name: `null` is no text, `true` no number.
    Numbers and ids may be quoted, as many tools write them.
    """

    def __init__(self, entry: Any) -> None:
        """Wrap an entry.

        Args:
            entry: A parsed JSON value.

        Raises:
            InvalidInputError: It is no object.
        """
        if not isinstance(entry, Mapping):
            raise InvalidInputError(f"it must be an object with fields, got {describe(entry)}")
        self._entry = entry

    def __contains__(self, name: str) -> bool:
        return name in self._entry

    def value(self, name: str, default: Any = _MISSING) -> Any:
        """Return the value of a field.

        Args:
            name: Name of the field.
            default: Value for a missing field; without it, the field is required.

        Returns:
            The value as parsed.

        Raises:
            InvalidInputError: It is missing, as in all methods below.
        """
        if name in self._entry:
            return self._entry[name]
        if default is _MISSING:
            raise InvalidInputError(f'it has no "{name}"')
        return default

    def text(self, name: str) -> str:
        """A text of valid Unicode."""
        return to_text(self.value(name), f'"{name}"')

    def optional_text(self, name: str) -> str | None:
        """A text of valid Unicode; None where the field is missing or null."""
        value = self.value(name, None)
        return None if value is None else to_text(value, f'"{name}"')

    def label(self, name: str) -> str | None:
        """A text or a number, as text: an answer; None where the field is missing or null."""
        value = self.value(name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return None if value is None else to_text(value, f'"{name}"')

    def identifier(self, name: str) -> str:
        """An id, which may be a text or a whole number, as text: 7, 7.0 and "7" are the same id."""
        return to_identifier(self.value(name), f'"{name}"')

    def whole(self, name: str) -> int:
        """A whole number."""
        return to_whole(self.value(name), f'"{name}"')

    def flag(self, name: str) -> bool:
        """True or false, as such or as 0 or 1; false where the field is missing or null."""
        value = self.value(name, None)
        if value is None:
            return False
        known: dict[Any, bool] = {"0": False, "1": True, 0: False, 1: True}
        if isinstance(value, str | int | float) and value in known:
            return known[value]
        raise InvalidInputError(f'its "{name}" must be 0 or 1, or true or false, got {describe(value)}')

    def items(self, name: str) -> list[Any]:
        """A list."""
        return to_list(self.value(name), f'"{name}"')

    def object(self, name: str) -> Fields:
        """An object, with fields of its own."""
        with inside(f'its "{name}"'):
            return Fields(self.value(name))

    def size(self) -> tuple[int, int]:
        """The fields width and height, in pixels, which are positive."""
        width, height = self.whole("width"), self.whole("height")
        if width <= 0 or height <= 0:
            raise InvalidInputError(f"its width and height must be positive, got {width} x {height}")
        return width, height


def to_text(value: Any, name: str) -> str:
    """Check that a value is a text of valid Unicode.

    Args:
        value: Value as parsed.
        name: Name of the field, for messages; as in all functions below.

    Returns:
        The text.

    Raises:
        InvalidInputError: It is something else, as in all functions below.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"its {name} must be a text, got {describe(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInputError(f"its {name} is not valid Unicode (it has half a character)") from None
    return value


def to_whole(value: Any, name: str) -> int:
    """A value that has to be a whole number, which may be quoted."""
    number = _to_number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        raise InvalidInputError(f"its {name} must be a whole number, got {describe(value)}")
    return int(number)


def to_finite(value: Any, name: str) -> float:
    """A value that has to be a number, not infinite and not NaN, which may be quoted."""
    number = _to_number(value)
    if number is None:
        raise InvalidInputError(f"its {name} must be a number, got {describe(value)}")
    if not math.isfinite(number):
        raise InvalidInputError(f"its {name} is not finite, got {describe(value)}")
    return float(number)


def to_identifier(value: Any, name: str) -> str:
    """A value that has to be an id: a text or a whole number, as text."""
    if isinstance(value, str):
        return to_text(value, name)
    if _to_number(value) is None:
        raise InvalidInputError(f"its {name} must be a text or a whole number, got {describe(value)}")
    return str(to_whole(value, name))


def to_list(value: Any, name: str) -> list[Any]:
    """A value that has to be a list."""
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"its {name} must be a list, got {describe(value)}")
    return list(value)


def to_span(value: Any, name: str) -> Span:
    """A value that has to be a span: the start and the end of some characters, two whole numbers."""
    span = to_list(value, f"{name} span")
    if len(span) != 2:
        raise InvalidInputError(f"a span of its {name} must be a start and an end, got {len(span)} numbers")
    return to_whole(span[0], f"{name} span"), to_whole(span[1], f"{name} span")


def describe(value: Any) -> str:
    """A value in the words of JSON, cut to a length that fits into a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return str(value)[:40]


def reason_of(error: Exception) -> str:
    """Why an entry cannot be used, in words that follow its place; the last full stop is left off."""
    if isinstance(error, MdetrError):
        return str(error).removesuffix(".")
    if isinstance(error, MemoryError):
        return "it is too large for this machine's memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return f"it is not valid Unicode text ({error})"
    if isinstance(error, KeyError):
        return f"a field is missing: {error}"
    return f"a field is missing or of the wrong kind ({error!r})"


@contextmanager
def inside(part: str) -> Iterator[None]:
    """Name a part of an entry in every error that is raised within.

    Args:
        part: Name of the part of an entry.

    Raises:
        InvalidInputError: For every error but a missing dependency.
    """
    try:
        yield
    except MissingDependencyError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{part}: {reason_of(error)}") from error


def _to_number(value: Any) -> int | float | None:
    """The number that a value is or, quoted, holds; None where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
        return value
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return _to_number(kind(value))
            except ValueError:
                continue
    return None
