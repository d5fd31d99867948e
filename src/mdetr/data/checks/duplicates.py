"""Checks for duplicate images and rows, in a database on disk."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from mdetr.data.checks.findings import EXAMPLES, Example, Finding, Kind, Tally
from mdetr.data.record import Record

REPEATED = Kind(
    "repeated-rows",
    "warning",
    "duplicate rows",
    "Remove the copies: duplicates get more weight in training and evaluation.",
)
LEAKED = Kind(
    "leaked-images",
    "error",
    "images that training and evaluation share",
    "Leave them out of one side, such as with `mdetr data combine --exclude`: scores on them are too high.",
)
SHARED = Kind(
    "shared-images",
    "warning",
    "images that several stores or splits share",
    "Fine if all are for training; if one is for evaluation, leave these images out of the others.",
)
_BATCH = 5_000
_CONTENT = (
    "text",
    "boxes",
    "spans",
    "is_referred",
    "masks",
    "phrases",
    "answer",
    "answer_type",
    "category_ids",
)


class Duplicates:
    """Finds duplicate rows, and images that several stores or splits share.

    Two images are equal if they are the same file or the same embedded bytes; with `reads_images` also if two
    files have equal bytes. Two rows are equal if only their sources, splits, ids and image ids differ.
    """

    def __init__(self, reads_images: bool = False) -> None:
        self._reads_images = reads_images
        self._folder = tempfile.TemporaryDirectory()
        self._connection = sqlite3.connect(Path(self._folder.name) / "rows.sqlite")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("CREATE TABLE rows (image BLOB, row BLOB, source TEXT, split TEXT, id TEXT)")
        self._batch: list[tuple[bytes, bytes, str, str, str]] = []
        self._last: tuple[Path | bytes | None, bytes] = (None, b"")

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        """Process a record, its image file or bytes, and the name of its file or store."""
        if image != self._last[0]:
            self._last = image, self._key_of(image)
        key = self._last[1]
        content = repr([getattr(record, name) for name in _CONTENT]).encode("utf-8", "replace")
        row = blake2b(key + content, digest_size=16).digest()
        self._batch.append((key, row, where, record.split, record.id))
        if len(self._batch) >= _BATCH:
            self._write()

    def finish(self) -> list[Finding]:
        """Return the findings, and remove the database."""
        self._write()
        try:
            return [*self._repeated(), *self._shared()]
        finally:
            self.close()

    def close(self) -> None:
        """Remove the database."""
        self._connection.close()
        self._folder.cleanup()

    def _key_of(self, image: Path | bytes) -> bytes:
        if isinstance(image, Path) and self._reads_images:
            with suppress(OSError):  # reported by the check of images
                image = image.read_bytes()
        content = image if isinstance(image, bytes) else os.fsencode(os.path.realpath(image))
        return blake2b(content, digest_size=16).digest()

    def _write(self) -> None:
        with self._connection:
            self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", self._batch)
        self._batch = []

    def _repeated(self) -> Iterator[Finding]:
        query = self._connection.execute
        (count,) = query("SELECT COUNT(*) - COUNT(DISTINCT row) FROM rows").fetchone()
        if not count:
            return
        examples = []
        groups = """SELECT row, MIN(rowid) AS first FROM rows GROUP BY row
                    HAVING COUNT(*) > 1 ORDER BY first LIMIT ?"""
        for row, first in query(groups, (EXAMPLES,)).fetchall():
            (name, where), (copy, source), *_ = query(
                "SELECT id, source FROM rows WHERE row = ? AND rowid >= ? ORDER BY rowid LIMIT 2",
                (row, first),
            ).fetchall()
            examples.append(Example(copy, f"is the same as record {name} of {where}", source))
        yield Finding(REPEATED, count, tuple(examples))

    def _shared(self) -> Iterator[Finding]:
        leaked, shared = Tally(LEAKED), Tally(SHARED)
        query = self._connection.execute
        query("CREATE INDEX by_image ON rows (image)")
        groups = """SELECT image, MIN(rowid) AS first FROM rows GROUP BY image
                    HAVING COUNT(DISTINCT source || char(0) || split) > 1 ORDER BY first"""
        for image, _ in self._connection.cursor().execute(groups):
            # Keep one record of each store and split, and compare the first two
            parts: dict[tuple[str, str], str] = {}
            for source, split, name in query(
                "SELECT source, split, id FROM rows WHERE image = ? ORDER BY rowid", (image,)
            ):
                parts.setdefault((source, split), name)
            (source, split), (other, other_split), *_ = parts
            tally = leaked if len({_is_for_training(split) for _, split in parts}) > 1 else shared
            first = f"record {parts[source, split]} of {source}, split {split}"
            tally.add(
                parts[other, other_split], f"shows the image of {first}", f"{other}, split {other_split}"
            )
        yield from (*leaked.findings(), *shared.findings())


def _is_for_training(split: str) -> bool:
    return split.lower().startswith("train")
