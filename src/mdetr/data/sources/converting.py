"""Conversion of entries of annotation files to valid records, or refusal with file and entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from mdetr.data.record import Record, validate_record
from mdetr.data.sources.fields import reason_of
from mdetr.data.store import OnBad
from mdetr.errors import InvalidRecordError, MissingDependencyError

Entry = TypeVar("Entry")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a reader leaves out on purpose, by the rules of its data set: "boxes of crowds", and how many."""

    kind: str
    count: int = 1


def convert_entries(
    entries: Iterable[tuple[str, Entry]],
    convert: Callable[[Entry, str], Iterable[Record | LeftOut]],
    on_bad: OnBad | None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Convert entries one by one; an invalid entry is skipped as a whole.

    Args:
        entries: Entries with their file and position, for messages.
        convert: Converts an entry, given with its position, to records and to what is left out of it on
            purpose. Any exception makes the entry invalid.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.
    """
    for where, entry in entries:
        converted = attempt(partial(_convert, convert, where), entry, where, on_bad)
        for item in converted or ():
            if isinstance(item, Record):
                yield item
            elif left_out is not None and item.count:
                left_out[item.kind] += item.count


def read_entries(
    entries: Iterable[tuple[str, Entry]], read: Callable[[Entry], Value], on_bad: OnBad | None
) -> Iterator[Value]:
    """Read entries that are not records, such as the sizes of images.

    Args:
        entries: Entries with their file and position, for messages.
        read: Reads what is needed of an entry. Any exception makes the entry invalid.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.

    Yields:
        What was read of each valid entry.

    Raises:
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.
    """
    for where, entry in entries:
        value = attempt(read, entry, where, on_bad)
        if value is not None:
            yield value


def numbered(entries: Iterable[Entry], name: str) -> Iterator[tuple[str, Entry]]:
    """Entries with their places: "instances.json, annotation 7" for the eighth, of the name up to 7."""
    for index, entry in enumerate(entries):
        yield f"{name} {index}", entry


def attempt(read: Callable[[Entry], Value], entry: Entry, where: str, on_bad: OnBad | None) -> Value | None:
    """Read an entry, and report it if it is invalid.

    Args:
        read: Reads an entry.
        entry: The entry.
        where: Its file and position, for messages.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.

    Returns:
        What was read; None if the entry is invalid and `on_bad` was called.

    Raises:
        InvalidRecordError: It failed, and `on_bad` is None.
        MissingDependencyError: An optional part of the installation is needed, which is no entry's fault.
    """
    try:
        return read(entry)
    except MissingDependencyError:
        raise
    except InvalidRecordError as error:
        problem = error
    except Exception as error:  # whatever a file makes a library raise is that entry's fault
        message = f"{where}: {reason_of(error)}."
        problem = InvalidRecordError(message.encode("utf-8", "backslashreplace").decode("utf-8"))
        problem.__cause__ = error
    if on_bad is None:
        raise problem
    on_bad(problem)
    return None


def _convert(
    convert: Callable[[Entry, str], Iterable[Record | LeftOut]], where: str, entry: Entry
) -> list[Record | LeftOut]:
    converted = list(convert(entry, where))
    for item in converted:
        if isinstance(item, Record):
            validate_record(item, where)
    return converted
