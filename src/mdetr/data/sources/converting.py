"""Entries of original files in; valid records out, and those that break a rule refused or set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from mdetr.data.record import Record, validate_record
from mdetr.data.store import OnBad
from mdetr.errors import InvalidRecordError

Entry = TypeVar("Entry")


def convert_entries(
    entries: Iterable[tuple[str, Entry]],
    convert: Callable[[Entry, str], Iterable[Record]],
    on_bad: OnBad | None,
) -> Iterator[Record]:
    """Convert entries one after the other; of a bad entry nothing is kept.

    Args:
        entries: each with its file and place, which errors name.
        convert: an entry and its place -> its records. That a field is missing or of the wrong kind may come
            as Python's own error.
        on_bad: called with the error of each entry that breaks a rule; None to stop.

    Raises:
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.
    """
    for where, entry in entries:
        try:
            records = list(convert(entry, where))
            for record in records:
                validate_record(record, where)
        except InvalidRecordError as error:
            problem = error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            problem = InvalidRecordError(f"{where}: a field is missing or of the wrong kind ({error!r}).")
        else:
            yield from records
            continue
        if on_bad is None:
            raise problem
        on_bad(problem)
