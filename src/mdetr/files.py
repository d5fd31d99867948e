"""Atomic writing of files, with ordinary permissions."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path whose file takes the place of `path` when the block ends without an error.

    After an error nothing is left behind, and an older file at `path` is as it was. A link keeps pointing at
    the file that it names. What is no file, such as /dev/stdout or a pipe, is written to directly.

    Args:
        path: The file to write; its folder must exist.

    Yields:
        A path in the same folder with the same suffix, at which there is no file yet.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        yield target
        return
    target = target.resolve()
    temporary = temporary_path(target)
    try:
        yield temporary
        give_ordinary_permissions(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A hidden name beside `path` with its suffix, at which there is nothing yet."""
    return path.with_name(f".{secrets.token_hex(6)}{path.suffix}")


def give_ordinary_permissions(file: Path) -> None:
    """Give a file the permissions of any new one, since some libraries, such as safetensors, hide theirs."""
    # The process's mask cannot be read without changing it, so a new file shows what it allows.
    example = temporary_path(file)
    example.touch(exist_ok=False)
    try:
        shutil.copymode(example, file)
    finally:
        example.unlink()


def is_data_address(image: object) -> bool:
    """Whether an image is given as a data: address, which holds the encoded image itself (RFC 2397)."""
    return isinstance(image, str) and image[:5].lower() == "data:"


def is_address(image: object) -> bool:
    """Whether an image is given as an address: of the web, of a file system, or a data: address."""
    return is_data_address(image) or (isinstance(image, str) and "://" in image)


def address_name(address: str) -> str:
    """The name of the file that an address ends with; of what has none, "image"."""
    if is_data_address(address):
        return "image"
    return address.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2] or "image"
