"""Saving a model with its processor to a folder that loads by its path."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from safetensors import SafetensorError

from mdetr.checkpoints.bars import without_bars
from mdetr.errors import CheckpointError
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.processor import MdetrProcessor


def save_model(model: MdetrForObjectDetection, processor: MdetrProcessor, folder: Path) -> None:
    """Write a model and its processor; files of the same names are replaced once all are written.

    Args:
        model: The model.
        processor: Its processor.
        folder: Made where it is missing; other files in it stay.

    Raises:
        CheckpointError: There is a file of that name, or the folder cannot be written; nothing was changed.
    """
    folder = folder.expanduser()
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; name a folder for the model.")
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        with without_bars():
            model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        folder.mkdir(exist_ok=True)
        for file in sorted(temporary.iterdir()):
            os.replace(file, folder / file.name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The model could not be written to {folder} ({error}); make room, or name another folder."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
