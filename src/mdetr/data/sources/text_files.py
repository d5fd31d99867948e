"""Opening of text files, also of compressed ones."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TextIO

from mdetr.errors import InvalidInputError

_GZIP = b"\x1f\x8b"
_HEAD = 4096  # bytes that are read to recognize compression and UTF-16


def open_text(file: Path, errors: str = "strict", newline: str | None = None) -> TextIO:
    """Open a UTF-8 file, with or without a byte order mark, plain or compressed with gzip.

    Compression is recognized by the content, whatever the name of the file.

    Args:
        file: The file.
        errors: How to treat bytes that are not UTF-8, as for `open`.
        newline: How to treat ends of lines, as for `open`.

    Returns:
        The open file.

    Raises:
        InvalidInputError: The file looks like UTF-16, or its compressed content is damaged.
    """
    with file.open("rb") as raw:
        head = raw.read(_HEAD)
    is_compressed = head.startswith(_GZIP)
    if is_compressed:
        try:
            with gzip.open(file) as content:
                head = content.read(_HEAD)
        except (OSError, EOFError) as error:
            raise InvalidInputError(
                f"{file} cannot be decompressed ({error}); copy or download it again."
            ) from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise InvalidInputError(f"{file} is not UTF-8 text but looks like UTF-16; save it in UTF-8.")
    if is_compressed:
        return gzip.open(file, "rt", encoding="utf-8-sig", errors=errors, newline=newline)
    return file.open(encoding="utf-8-sig", errors=errors, newline=newline)
