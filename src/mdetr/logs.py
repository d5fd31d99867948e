"""Logs of this package and of other libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Silence loggers of other libraries below errors, which this package reports itself.

    Args:
        *names: Names of the loggers; their levels are restored at the end.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def shown_notices() -> Iterator[None]:
    """Print the notices of this package to stderr."""
    logger = logging.getLogger("mdetr")
    level, handler = logger.level, logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mdetr: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
