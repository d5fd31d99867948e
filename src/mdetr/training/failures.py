"""Plain messages for failures from outside: dead workers, full memory, lost processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mdetr.errors import MdetrError, TrainingError

_IN_WORKER = re.compile(
    r"Caught \w+ in DataLoader worker.*^(?:[\w.]+Error): (?P<reason>[^\n]+)\s*\Z", re.DOTALL | re.MULTILINE
)
_DEAD_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)")
_SILENT = re.compile(r"Timed out waiting|Connection (closed|reset) by peer|Connection closed|timeout", re.I)

RESUME = "the last checkpoint is kept; go on with --resume"


@contextmanager
def explained(timeout: float) -> Iterator[None]:
    """Around a run: errors that come from its surroundings are told in one sentence.

    Args:
        timeout: minutes after which a process gives up waiting for another.

    Raises:
        TrainingError: in place of the error of a library, where it is one of those known.
    """
    try:
        yield
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        reason = _explain(error, timeout)
        if reason is None:
            raise
        raise TrainingError(reason) from error


def _explain(error: Exception, timeout: float) -> str | None:
    text = str(error)
    if inner := _IN_WORKER.search(text):
        return inner["reason"]
    if isinstance(error, MdetrError):
        return None
    # a pipe to a dead worker breaks; between processes of a run there are no Python connections
    if _DEAD_WORKER.search(text) or isinstance(error, (ConnectionError, EOFError)):
        return (
            "A process that reads data died, most often for want of memory: set run.workers lower "
            f"({RESUME})."
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "The GPU's memory is full: raise run.gradient_accumulation, or set run.precision=bf16 or "
            f"run.gradient_checkpointing=true ({RESUME})."
        )
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and _SILENT.search(text):
        return (
            f"Another process of the run died, or did not answer for {timeout:g} minutes (run.timeout): "
            f"look at what it printed last ({RESUME})."
        )
    return None
