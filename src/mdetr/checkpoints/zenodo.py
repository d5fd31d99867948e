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
    """What is stated of a file: its size in bytes, and its MD5 in hexadecimal digits."""

    size: int
    md5: str


def read_statement(address: str) -> Statement | None:
    """What the record that a file belongs to states of it; None if it is no record, or does not say.

    Args:
        address: The address of the file.
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
        return None  # the transfer tells what is wrong, if anything is
    kind, _, digits = str(checksum).partition(":")
    return Statement(size, digits) if kind == "md5" else None
