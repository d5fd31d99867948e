"""List of the broken examples that training and evaluation leave out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdetr.data.store import Store
from mdetr.errors import TrainingError

MAX_FRACTION = 0.01  # maximum fraction of broken examples
BROKEN_FILE = "broken_examples.jsonl"
TRAINING = "train"  # name of the training data in the list


class BrokenExamples:
    """JSON Lines file of the examples that are left out, shared by all processes.

    A line has "data" ("train" or the name of the validation set), "store", the "source", "split", "id" and
    "image_id" of the record, the "reason", and "example", the index of an example that could not be read.

    Args:
        file: Path of the list, which is created with its first line.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def add_records(self, data: str, store: Store, reasons: Mapping[int, str]) -> None:
        """Add rows of a store with their reasons, unless they are already listed."""
        lines: list[dict[str, Any]] = []
        for row, reason in reasons.items():
            names = store.name_of(row)
            lines.append({"data": data, "store": str(store.path), **names, "reason": reason})
        self._add(lines)

    def add_example(self, data: str, index: int, store: Path, name: Mapping[str, str], reason: str) -> None:
        """Add an example that could not be read, unless it is already listed."""
        self._add([{"data": data, "store": str(store), **name, "reason": reason, "example": index}])

    def _add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Append the lines that are new."""
        known = {_key(entry) for entry in self._lines()}
        new: list[str] = []
        for line in lines:
            if _key(line) not in known:
                new.append(json.dumps(line, ensure_ascii=False) + "\n")
        if new:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{self._end_of_line()}{''.join(new)}")

    def _end_of_line(self) -> str:
        """Return what has to precede a new line: a line feed if a killed process has left half a line."""
        with self.file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            return "" if file.read(1) in (b"", b"\n") else "\n"

    def unreadable(self, data: str) -> set[int]:
        """Return the indices of the examples that could not be read so far."""
        return {line["example"] for line in self._lines() if line["data"] == data and "example" in line}

    def _lines(self) -> list[dict[str, Any]]:
        if not self.file.is_file():
            return []
        lines: list[dict[str, Any]] = []
        try:
            for text in self.file.read_text(encoding="utf-8").split("\n"):
                try:
                    lines.append(json.loads(text))
                except ValueError:
                    if text and not text.startswith("{"):  # else a killed process has left half a line
                        raise
            for line in lines:
                _key(line)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise TrainingError(
                f"{self.file}, the list of what was left out, is damaged; remove it, and it is made anew."
            ) from None
        return lines


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
    """Leave out the records that the model cannot process, and list them.

    Args:
        data: Name of the data in the list.
        stores: Stores to check.
        find: Function from a store to its unusable rows with their reasons.
        broken: List to add them to; None for no list.

    Returns:
        The stores without these records, and a sentence with their number; None if there are none.

    Raises:
        TrainingError: More than 1 % of the records are unusable.
    """
    kept: list[Store] = []
    total = count = 0
    first = ""
    for store in stores:
        # Find and list the unusable rows
        reasons = find(store)
        if reasons and broken is not None:
            broken.add_records(data, store, reasons)
        if reasons and not first:
            row, reason = next(iter(reasons.items()))
            first = f"{store.name_of(row)['id']!r} of {store.path}: {reason}"

        # Keep the others
        total, count = total + len(store), count + len(reasons)
        usable = np.setdiff1d(np.arange(len(store)), np.array(list(reasons), dtype=np.int64))
        kept.append(store.select(usable) if reasons else store)

    # Describe what is left out
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
    """Check whether too many examples are broken; a single one is allowed unless it is the only example."""
    return count >= total or count > max(1, MAX_FRACTION * total)
