"""Resumable, verified download of one large file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from tqdm.auto import tqdm

from mdetr.checkpoints.hub import HTTP_ERRORS, without_notices
from mdetr.errors import CheckpointError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ANOTHER = "To take it from another place, set MDETR_MIRROR or give --mirror (mirror=... in Python)"


def download(address: str, file: Path, size: int | None = None) -> None:
    """Download a file, with a progress bar where somebody looks on.

    What arrives is kept beside `file` under the suffix `.part` and completed by the next call; `file` itself
    appears only when it is whole.

    Args:
        address: An http or https address.
        file: The path to write; its folder is made if need be.
        size: What the file should have, in bytes; what the server says, if left out.

    Raises:
        CheckpointError: There is no such file, the server cannot be reached, the transfer broke off, the size
            is wrong, or the disk is full.
    """
    _check_address(address)
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with without_notices():
            try:
                _complete(address, part, file.name, size)
            except HfHubHTTPError as error:
                if error.response.status_code != 416:
                    raise
                # What is here is as long as the file or longer: it is the file, or worth nothing.
                if error.response.headers.get("Content-Range") != f"bytes */{part.stat().st_size}":
                    part.unlink()
                    _complete(address, part, file.name, size)
        os.replace(part, file)
    except HTTP_ERRORS as error:  # OSError is one of them
        raise CheckpointError(_explain(error, address, part, size)) from None


class _Bar(tqdm):
    """Shown where standard error is a terminal, also by commands that silence the bars of other libraries."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("name", None)
        super().__init__(*args, **{**kwargs, "disable": None})


def _complete(address: str, part: Path, name: str, size: int | None) -> None:
    """Append to a part what it lacks; short interruptions are waited for."""
    with part.open("ab") as content:
        http_get(
            address,
            content,
            resume_size=content.tell(),
            expected_size=size,
            displayed_filename=name,
            tqdm_class=_Bar,
        )


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise CheckpointError(
            f"{address!r} is not an address to download from: a mirror should begin with https:// or http://."
        )


def _explain(error: BaseException, address: str, part: Path, size: int | None) -> str:
    here = part.stat().st_size if part.exists() else 0
    if not here:
        part.unlink(missing_ok=True)
    kept = f"; {here / 1e6:,.0f} MB are kept, and the same call resumes" if here else ""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (404, 410):
            return f"There is no file at {address} (the server answers {status}). {_ANOTHER}."
        return f"The server refuses {address} (it answers {status}){kept}. Try again later. {_ANOTHER}."
    if getattr(error, "errno", None) in _NO_ROOM:
        return f"The disk is full: {part.parent} has no room for {address}. Make room, and try again{kept}."
    if getattr(error, "errno", None) is not None:
        return f"{part} could not be written ({os.strerror(error.errno)}); set MDETR_HOME to another folder."  # type: ignore[attr-defined]
    if "Consistency check" in str(error):
        # More or less than was announced: nothing of it can be trusted.
        part.unlink(missing_ok=True)
        return (
            f"The file at {address} has {here:,} bytes instead of {size:,}: it is another file, or damaged. "
            f"It was deleted. {_ANOTHER}."
            if size is not None
            else f"{address} did not arrive as the server announced it, and was deleted; try again."
        )
    return f"The transfer of {address} failed ({_words(error)}){kept}. Check the network. {_ANOTHER}."


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
