"""Embedding of image files into records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mdetr.data.record import Record
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.store import OnBad
from mdetr.errors import InvalidRecordError


def embed_image_files(
    records: Iterable[Record], image_root: Path, on_bad: OnBad | None = None
) -> Iterator[Record]:
    """Replace the file name of each record's image by the content of the file, which is not re-encoded.

    Args:
        records: Records, sorted by image for speed: only the last file is kept in memory.
        image_root: Folder that the image names are relative to.
        on_bad: Called with the error of each record whose image cannot be used; None to raise it.

    Yields:
        Each record with the encoded image as `image`.

    Raises:
        InvalidRecordError: An image is missing, damaged, or has another size than its record states, and
            `on_bad` is None.
    """
    sizes = ImageSizes(image_root)
    last_name, content = "", b""
    for record in records:
        if isinstance(record.image, bytes):
            yield record
            continue
        where = f"Record {record.id!r} of source {record.source!r}"
        try:
            name, *size = sizes.locate(record.image, where)
            if tuple(size) != (record.width, record.height):
                raise InvalidRecordError(
                    f"{where}: {image_root / name} has {size[0]} x {size[1]} pixels, not "
                    f"{record.width} x {record.height}, so its boxes cannot be right."
                )
        except InvalidRecordError as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        if name != last_name:
            last_name, content = name, (image_root / name).read_bytes()
        yield replace(record, image=content)
