"""A run's folder: whether a new run may have it, and the checkpoints in it."""

from __future__ import annotations

import os
from pathlib import Path

from mdetr.errors import CheckpointError, TrainingError

COMPLETE = "complete"  # a checkpoint without this file was interrupted while it was written


def check_run_folder(folder: Path, resume: bool) -> None:
    """See that a run can have a folder, before anything is loaded or written for it.

    Args:
        folder: Where the run is to be; it may be missing.
        resume: Whether a run that is there goes on.

    Raises:
        TrainingError: It holds a run that does not go on, is a file, or cannot be written to.
        CheckpointError: There is no checkpoint to go on from.
    """
    if resume:
        last_checkpoint(folder)
    elif has_checkpoint(folder):
        raise TrainingError(
            f"{folder} already holds a run: continue with --resume, or choose another --output."
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise TrainingError(f"{existing} is a file and no folder for a run; name another --output.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrainingError(f"You may not write to the folder {existing}; name another --output.")


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has a checkpoint that was written to its end."""
    return any(folder.glob(f"checkpoint-*/{COMPLETE}"))


def last_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run that was written to its end.

    Raises:
        CheckpointError: the run has none.
    """
    if not has_checkpoint(folder):
        raise CheckpointError(f"There is no checkpoint in {folder} to resume from; train without --resume.")
    complete = (path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}"))
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")))
