"""Streaming of one list of a large JSON file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from mdetr.data.sources.text_files import open_text
from mdetr.errors import InvalidInputError

_CHUNK = 1 << 20
_DECODER = json.JSONDecoder()


def iterate_list(path: Path, key: str) -> Iterator[Any]:
    """Yield the entries of the list `key` of the JSON object in a file, of which only a part is in memory.

    Args:
        path: A JSON file with an object.
        key: Name of the list in the object.

    Returns:
        An iterator over the entries of the list.

    Raises:
        InvalidInputError: The file is missing, is not such JSON, or has no list of this name.
    """
    return _stream(path, f'a JSON object with a list "{key}"', lambda reader: reader.entries(key))


def iterate_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of the JSON object in a file, of which only a part is in memory.

    Args:
        path: A JSON file with an object.

    Returns:
        An iterator over keys and values of the object.

    Raises:
        InvalidInputError: The file is missing or is not such JSON.
    """
    return _stream(path, "a JSON object", lambda reader: reader.items())


def iterate_entries(path: Path) -> Iterator[Any]:
    """Yield the entries of the JSON list in a file, of which only a part is in memory.

    Args:
        path: A JSON file with a list.

    Returns:
        An iterator over the entries of the list.

    Raises:
        InvalidInputError: The file is missing or is not such JSON.
    """
    return _stream(path, "a JSON list", lambda reader: reader.list())


def _stream(path: Path, kind: str, read: Callable[[_Reader], Iterator[Any]]) -> Iterator[Any]:
    if not path.is_file():
        raise InvalidInputError(f"There is no file {path}; check the folder and the split.")
    try:
        with open_text(path) as file:
            yield from read(_Reader(file))
    except gzip.BadGzipFile as error:
        raise InvalidInputError(
            f"{path} cannot be decompressed ({error}); copy or download it again."
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text ({error}); save it in UTF-8.") from None
    except RecursionError:
        raise InvalidInputError(f"{path} is not {kind}: it is nested too deeply.") from None
    except (ValueError, EOFError) as error:
        raise InvalidInputError(f"{path} is not {kind} ({error}); it may be cut off.") from None


class _Reader:
    """Decodes one value after the other from a file's text, of which only a window is kept."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._window = ""
        self._place = 0

    def entries(self, key: str) -> Iterator[Any]:
        self._take("{")
        while self._value() != key:
            self._take(":")
            self._skip()
            if self._take(",}") == "}":
                raise ValueError(f'it has no "{key}"')
        self._take(":")
        yield from self.list()

    def items(self) -> Iterator[tuple[str, Any]]:
        self._take("{")
        if self._next() == "}":
            return
        while True:
            key = self._value()
            self._take(":")
            yield str(key), self._value()
            if self._take(",}") == "}":
                return

    def list(self) -> Iterator[Any]:
        self._take("[")
        if self._next() == "]":
            self._take("]")
            return
        yield self._value()
        while self._take(",]") == ",":
            yield self._value()

    def _skip(self) -> None:
        """Pass over a value; of a list, one entry after the other."""
        if self._next() == "[":
            for _ in self.list():
                pass
        else:
            self._value()

    def _next(self) -> str:
        """The next character that is not white space, left in place."""
        while True:
            while self._place < len(self._window) and self._window[self._place].isspace():
                self._place += 1
            if self._place < len(self._window):
                return self._window[self._place]
            self._read_more()

    def _take(self, expected: str) -> str:
        character = self._next()
        if character not in expected:
            raise ValueError(f"expected one of {expected!r}, got {character!r}")
        self._place += 1
        return character

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._place)
            except ValueError as error:
                try:
                    self._read_more()
                except EOFError:
                    raise error from None
                continue
            if self._window[end : end + 1] in ("", ".", "e", "E"):  # a number that goes on
                self._read_more()
                continue
            self._place = end
            return value

    def _read_more(self) -> None:
        chunk = self._file.read(max(_CHUNK, len(self._window) - self._place))
        if not chunk:
            raise EOFError("it ends too early")
        self._window = self._window[self._place :] + chunk
        self._place = 0
