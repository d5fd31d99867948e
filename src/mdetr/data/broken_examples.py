"""Broken examples: left out, listed and counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdetr.data.store import Store
from mdetr.errors import TrainingError

MAX_FRACTION = 0.01  # of the examples that may be broken
BROKEN_FILE = "broken_examples.jsonl"
TRAINING = "train"  # what the list calls the training data; validation data have their own names


class BrokenExamples:
    """The list of what was left out: a file with a line of JSON for each, shared by all processes.

    A line has "data" ("train" or the validation's name), "store", the record's "source", "split", "id" and
    "image_id", the "reason", and "example", the place among the examples, where reading it failed.

    Args:
        file: Where the list is; it is made when there is something to list.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def add_records(self, data: str, store: Store, reasons: Mapping[int, str]) -> None:
        """List rows of a store, each with the reason, unless they are listed already."""
        named = [{**store.name_of(row), "reason": reason} for row, reason in reasons.items()]
        self._add([{"data": data, "store": str(store.path), **line} for line in named])

    def add_example(self, data: str, place: int, store: Path, name: Mapping[str, str], reason: str) -> None:
        """List an example that could not be read, by its place, unless it is listed already."""
        self._add([{"data": data, "store": str(store), **name, "reason": reason, "example": place}])

    def _add(self, lines: Sequence[dict[str, Any]]) -> None:
        known = {_key(entry) for entry in self._lines()}
        new = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines if _key(line) not in known]
        if new:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write("".join(new))

    def unreadable(self, data: str) -> set[int]:
        """The places of the examples that could not be read so far."""
        return {line["example"] for line in self._lines() if line["data"] == data and "example" in line}

    def _lines(self) -> list[dict[str, Any]]:
        if not self.file.is_file():
            return []
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    if "example" in line:
        return line["data"], line["example"]
    return line["data"], line["store"], line["source"], line["split"], line["id"]


def without_unusable(
    data: str,
    stores: Iterable[Store],
    find: Callable[[Store], dict[int, str]],
    broken: BrokenExamples | None = None,
) -> tuple[list[Store], str | None]:
    """Leave out the records that the model cannot take, and list them.

    Args:
        data: What the list calls the data.
        stores: Of which records are left out.
        find: Gives for a store the rows that cannot be used, each with the reason.
        broken: The list; None to list nothing.

    Returns:
        The stores without these records, and a sentence that says how many there were; None without any.

    Raises:
        TrainingError: There are too many of them.
    """
    kept: list[Store] = []
    total = count = 0
    first = ""
    for store in stores:
        reasons = find(store)
        if reasons and broken is not None:
            broken.add_records(data, store, reasons)
        if reasons and not first:
            row, reason = next(iter(reasons.items()))
            first = f"{store.name_of(row)['id']!r} of {store.path}: {reason}"
        total, count = total + len(store), count + len(reasons)
        usable = np.setdiff1d(np.arange(len(store)), np.array(list(reasons), dtype=np.int64))
        kept.append(store.select(usable) if reasons else store)
    if not count:
        return kept, None
    listed = "" if broken is None else f" All are listed in {broken.file}."
    if too_many(count, total):
        raise TrainingError(
            f"{count:,} of {total:,} records of {data} cannot be used, more than {MAX_FRACTION:.0%}, "
            f"such as record {first}{listed}"
        )
    are = "is" if count == 1 else "are"
    return kept, f"{count:,} of {total:,} records of {data} {are} left out, such as record {first}{listed}"


def too_many(count: int, total: int) -> bool:
    """Whether more examples are broken than may be; one always may, unless there is no other."""
    return count >= total or count > max(1, MAX_FRACTION * total)
