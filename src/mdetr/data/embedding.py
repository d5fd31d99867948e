"""Embedding of image files into records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mdetr.data.record import Record
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.store import OnBad
from mdetr.errors import InvalidRecordError


def embedded(records: Iterable[Record], image_root: Path, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Records whose `image` is the content of the file that it named; the files are not encoded anew.

    Args:
        records: those of one image should follow each other: only the last file is kept in memory.
        image_root: the folder that their images are relative to.
        on_bad: called with the error of each record whose image cannot be used; None to stop.

    Raises:
        InvalidRecordError: an image is missing, damaged, or not as large as its record says, and `on_bad` is
            None.
    """
    size_of = ImageSizes(image_root)
    name, content = "", b""
    for record in records:
        if isinstance(record.image, bytes):
            yield record
            continue
        where = f"Record {record.id!r} of source {record.source!r}"
        try:
            found, *size = size_of.locate(record.image, where)
            if tuple(size) != (record.width, record.height):
                raise InvalidRecordError(
                    f"{where}: {image_root / found} has {size[0]} x {size[1]} pixels, not "
                    f"{record.width} x {record.height}, so its boxes cannot be right."
                )
        except InvalidRecordError as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        if found != name:
            name, content = found, (image_root / found).read_bytes()
        yield replace(record, image=content)
