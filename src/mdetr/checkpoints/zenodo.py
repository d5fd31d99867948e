"""Size and checksum of a released file, as Zenodo publishes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from huggingface_hub.utils import get_session

from mdetr.checkpoints.hub import HTTP_ERRORS, TIMEOUT

# A file of a record; any host, so that a copy of the whole site is verified too.
_ADDRESS = re.compile(r"(https?://[^/]+)/records?/(\d+)/files/([^/?]+)")

_NO_ANSWER: tuple[type[Exception], ...] = (*HTTP_ERRORS, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class Statement:
    """Size of a file in bytes, and its MD5 in hexadecimal digits."""

    size: int
    md5: str


def read_statement(address: str) -> Statement | None:
    """Size and checksum of a file, from the Zenodo record that it belongs to.

    Args:
        address: Address of the file.

    Returns:
        Size and MD5; None if the address is not in a record, or the record cannot be read.
    """
    match = _ADDRESS.match(address)
    if match is None:
        return None
    site, record, name = match.groups()
    try:
        answer = get_session().get(f"{site}/api/records/{record}", timeout=TIMEOUT)
        answer.raise_for_status()
        sizes = {entry["key"]: (int(entry["size"]), entry["checksum"]) for entry in answer.json()["files"]}
        size, checksum = sizes[unquote(name)]
    except _NO_ANSWER:
        return None  # the download reports errors, if any
    kind, _, digits = str(checksum).partition(":")
    return Statement(size, digits) if kind == "md5" else None
