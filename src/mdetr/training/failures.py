"""Plain messages for failures from outside: dead workers, full memory, lost processes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from mdetr.errors import MdetrError, TrainingError

_IN_WORKER = re.compile(
    r"Caught \w+ in DataLoader worker.*^(?:[\w.]+Error): (?P<reason>[^\n]+)\s*\Z", re.DOTALL | re.MULTILINE
)
_DEAD_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)")
_SILENT = re.compile(r"Timed out waiting|Connection (closed|reset) by peer|Connection closed|timeout", re.I)

_CANNOT_WRITE = re.compile("PytorchStreamWriter|iostream error")  # in what torch says of a full disk

RESUME = "the last checkpoint is kept; continue with --resume"


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
            "A process that reads data died, most often for lack of memory: set run.workers lower "
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


@contextmanager
def checkpoint_errors(folder: Path) -> Iterator[None]:
    """Around the writing of a checkpoint: one that cannot be finished is removed.

    Raises:
        TrainingError: The checkpoint could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        # Each library has an error of its own for a full disk
        if type(error) is RuntimeError and not _CANNOT_WRITE.search(str(error)):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise TrainingError(
            f"{folder} could not be written ({error}): make room on the disk; the checkpoint before it is "
            "kept, continue from there with --resume."
        ) from error
