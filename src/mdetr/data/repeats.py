"""Checks for duplicate images and rows, in a database on disk."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from mdetr.data.findings import EXAMPLES, Example, Finding, Kind, Tally
from mdetr.data.record import Record

REPEATED = Kind(
    "repeated-rows",
    "warning",
    "rows that are there twice",
    "Remove the copies: a row that is there twice counts twice.",
)
LEAKED = Kind(
    "leaked-images",
    "error",
    "images for training that are for evaluation too",
    "Leave them out of one side (`mdetr data combine --exclude` does it): scores on them say nothing.",
)
SHARED = Kind(
    "shared-images",
    "warning",
    "images that several stores or splits share",
    "Fine where all are trained on; if one is to evaluate on, leave these images out of the others.",
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


class Repeats:
    """Finds equal rows, and images that several stores or splits share.

    Images are the same if they are the same file, or the same embedded bytes; with `reads_images` also if two
    files hold the same bytes. Rows are the same if they differ in no more than their names.
    """

    def __init__(self, reads_images: bool = False) -> None:
        self._reads_images = reads_images
        self._folder = tempfile.TemporaryDirectory()
        self._connection = sqlite3.connect(Path(self._folder.name) / "rows.sqlite")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("CREATE TABLE rows (image BLOB, row BLOB, place TEXT, split TEXT, id TEXT)")
        self._batch: list[tuple[bytes, bytes, str, str, str]] = []
        self._last: tuple[Path | bytes | None, bytes] = (None, b"")

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        """Take a record, its image's path or bytes, and the file or store that it is from."""
        if image != self._last[0]:
            self._last = image, self._key_of(image)
        key = self._last[1]
        content = repr([getattr(record, name) for name in _CONTENT]).encode("utf-8", "replace")
        row = blake2b(key + content, digest_size=16).digest()
        self._batch.append((key, row, where, record.split, record.id))
        if len(self._batch) >= _BATCH:
            self._write()

    def finish(self) -> list[Finding]:
        """What was found; the database is removed."""
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
            with suppress(OSError):  # which the check of images tells
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
            (name, where), (copy, place), *_ = query(
                "SELECT id, place FROM rows WHERE row = ? AND rowid >= ? ORDER BY rowid LIMIT 2", (row, first)
            ).fetchall()
            examples.append(Example(copy, f"is the same as record {name} of {where}", place))
        yield Finding(REPEATED, count, tuple(examples))

    def _shared(self) -> Iterator[Finding]:
        leaked, shared = Tally(LEAKED), Tally(SHARED)
        query = self._connection.execute
        query("CREATE INDEX by_image ON rows (image)")
        groups = """SELECT image, MIN(rowid) AS first FROM rows GROUP BY image
                    HAVING COUNT(DISTINCT place || char(0) || split) > 1 ORDER BY first"""
        for image, _ in self._connection.cursor().execute(groups):
            parts: dict[tuple[str, str], str] = {}
            for place, split, name in query(
                "SELECT place, split, id FROM rows WHERE image = ? ORDER BY rowid", (image,)
            ):
                parts.setdefault((place, split), name)
            (place, split), (other, other_split), *_ = parts
            tally = leaked if len({_is_for_training(split) for _, split in parts}) > 1 else shared
            first = f"record {parts[place, split]} of {place}, split {split}"
            tally.add(
                parts[other, other_split], f"shows the image of {first}", f"{other}, split {other_split}"
            )
        yield from (*leaked.findings(), *shared.findings())


def _is_for_training(split: str) -> bool:
    return split.lower().startswith("train")
