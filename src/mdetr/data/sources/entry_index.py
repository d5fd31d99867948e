"""Index of the entries of a large file by the image that they belong to."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

_BATCH = 10_000
Key = int | str


class EntryIndex(AbstractContextManager["EntryIndex"]):
    """Entries (as JSON) by number or name, in a temporary database: files of any size need little memory."""

    def __init__(self, entries: Iterable[tuple[Key, Any]]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._connection = sqlite3.connect(Path(self._folder.name) / "entries.sqlite")
        try:
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute("CREATE TABLE entries (key TEXT, content TEXT)")
            batch: list[tuple[str, str]] = []
            for key, entry in entries:
                batch.append((json.dumps(key), json.dumps(entry)))
                if len(batch) >= _BATCH:
                    self._write(batch)
                    batch = []
            self._write(batch)
            self._connection.execute("CREATE INDEX by_key ON entries (key)")
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, key: Key) -> list[Any]:
        """The entries of a number or name, in the order in which they came."""
        # Keys are JSON too: the database knows no numbers of over 64 bits, and no halves of characters.
        rows = self._connection.execute(
            "SELECT content FROM entries WHERE key = ? ORDER BY rowid", (json.dumps(key),)
        )
        return [json.loads(content) for (content,) in rows]

    def close(self) -> None:
        self._connection.close()
        self._folder.cleanup()

    def _write(self, batch: Sequence[tuple[str, str]]) -> None:
        with self._connection:
            self._connection.executemany("INSERT INTO entries VALUES (?, ?)", batch)
