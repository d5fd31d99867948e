"""Entries of a large file, each with the number of what it belongs to, in; those of one number out."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

_BATCH = 10_000


class EntryIndex(AbstractContextManager["EntryIndex"]):
    """Entries (as JSON) by number, in a temporary database, so that files of any size need little memory."""

    def __init__(self, entries: Iterable[tuple[int, Any]]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._connection = sqlite3.connect(Path(self._folder.name) / "entries.sqlite")
        try:
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute("CREATE TABLE entries (number INTEGER, content TEXT)")
            batch: list[tuple[int, str]] = []
            for number, entry in entries:
                batch.append((number, json.dumps(entry)))
                if len(batch) >= _BATCH:
                    self._write(batch)
                    batch = []
            self._write(batch)
            self._connection.execute("CREATE INDEX by_number ON entries (number)")
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, number: int) -> list[Any]:
        """The entries of a number, in the order in which they came."""
        rows = self._connection.execute(
            "SELECT content FROM entries WHERE number = ? ORDER BY rowid", (int(number),)
        )
        return [json.loads(content) for (content,) in rows]

    def close(self) -> None:
        self._connection.close()
        self._folder.cleanup()

    def _write(self, batch: Sequence[tuple[int, str]]) -> None:
        with self._connection:
            self._connection.executemany("INSERT INTO entries VALUES (?, ?)", batch)
