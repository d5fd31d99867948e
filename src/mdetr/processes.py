"""Processes that must not disturb each other: locks of files, and workers that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread


@contextmanager
def locked(file: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold a lock that one process at a time can have; it is released when the process ends, however it ends.

    Args:
        file: The lock, an empty file that is made if it is missing; its folder must exist.
        patience: Seconds to wait for another process.

    Yields:
        Whether this process has the lock; true on a file system without locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        yield False
        return
    except NotImplementedError:
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def end_with_parent() -> None:
    """Let a process of a pool end when the process that started it is killed, instead of working on alone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
