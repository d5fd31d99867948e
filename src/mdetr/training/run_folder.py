"""Folder of a run: whether a run may use it, what a killed run has left in it, and its checkpoints."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdetr.errors import CheckpointError, TrainingError
from mdetr.files import remove_temporaries, restore_folder
from mdetr.processes import locked

COMPLETE = "complete"  # the last file of a checkpoint to be written; without it the checkpoint is unfinished
MODEL_FOLDER = "model"
LOCK_FILE = ".lock"

# Seconds: the processes that read data for a killed run hold its lock until they notice, about every five
_LOCK_PATIENCE = 8.0


def check_run_folder(folder: Path, resume: bool) -> None:
    """Check that a run can use a folder, before anything is loaded or written for it.

    Args:
        folder: The run's folder; it may be missing.
        resume: Whether to resume the run in the folder.

    Raises:
        TrainingError: It holds a run that is not to be resumed, is a file, or cannot be written to.
        CheckpointError: There is no checkpoint to resume from.
    """
    if resume:
        last_checkpoint(folder)
    elif complete_checkpoints(folder):
        raise TrainingError(
            f"{folder} already holds a run: continue with --resume, or choose another --output."
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise TrainingError(f"Expected a folder, but {existing} is a file; name another --output.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrainingError(f"You may not write to the folder {existing}; name another --output.")


@contextmanager
def used_alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if it is missing, while a run uses it.

    Args:
        folder: The run's folder.

    Raises:
        TrainingError: Another run uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_FILE, _LOCK_PATIENCE) as is_alone:
        if not is_alone:
            raise TrainingError(f"Another run uses {folder}: wait until it ends, or choose another --output.")
        yield


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run has left half-written, and put back the model that it was about to replace.

    Args:
        folder: The run's folder, which no other run uses.
    """
    restore_folder(folder / MODEL_FOLDER)
    for name in ("checkpoint-*", MODEL_FOLDER):
        for path in folder.glob(unfinished_folder(Path(name)).name):
            shutil.rmtree(path)
    remove_temporaries(folder)


def unfinished_folder(folder: Path) -> Path:
    """Return the path at which a checkpoint or model is written until it is complete."""
    return folder.with_name(f".{folder.name}.new")


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run that were written completely, in no particular order."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return [path for path in found if path.name.removeprefix("checkpoint-").isdecimal()]


def checkpoint_step(checkpoint: Path) -> int:
    """Return the step that the name of a checkpoint gives."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_checkpoint(folder: Path) -> Path:
    """Find the newest complete checkpoint of a run.

    Args:
        folder: The run's folder.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: The run has none.
    """
    checkpoints = complete_checkpoints(folder)
    if not checkpoints:
        raise CheckpointError(f"There is no checkpoint in {folder} to resume from; train without --resume.")
    return max(checkpoints, key=checkpoint_step)
