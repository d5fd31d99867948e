"""Cache of compiled graphs: OpenVINO loads them several times faster than it compiles them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mdetr.checkpoints.cache import cache_folder

MAX_BYTES = 2**30  # of all compiled graphs together


def compiled_folder() -> Path:
    """The folder of the compiled graphs of all models; it can be deleted at any time."""
    return cache_folder() / "compiled"


@contextmanager
def compilation_cache(key: str) -> Iterator[Path | None]:
    """Give the folder for the compiled graphs of a model, which others see when all of them are written.

    Afterwards, the models that were used least recently are removed while all need more than `MAX_BYTES`.

    Args:
        key: What identifies the graphs and how they are compiled.

    Yields:
        The folder, with the graphs if they were compiled before; None if nothing can be written there.
    """
    folder = compiled_folder() / key
    if folder.is_dir():
        with suppress(OSError):  # a cache that others may only read
            os.utime(folder)
        yield folder
        return
    temporary = folder.with_name(f".{key}.{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
    except OSError:
        yield None
        return
    try:
        yield temporary
        with suppress(OSError):  # another process was faster
            temporary.rename(folder)
            _remove_oldest(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_oldest(root: Path) -> None:
    """Remove the folders that were used least recently while all need more than `MAX_BYTES`."""
    folders = sorted(root.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.iterdir())
        if total > MAX_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
