"""Loading and saving without the progress bars of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from transformers.utils import logging

_LOCK = RLock()  # transformers has one hook for all threads


@contextmanager
def without_bars() -> Iterator[None]:
    """Show no bar over weights, which are there in a moment; the settings of the program stay as they are."""
    with _LOCK:
        before = logging.set_tqdm_hook(lambda factory, args, options: logging.EmptyTqdm(*args, **options))
        try:
            yield
        finally:
            logging.set_tqdm_hook(before)
