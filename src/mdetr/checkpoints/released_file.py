"""Quick check of a released file, before torch is imported to read it."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from mdetr.errors import CheckpointError


def check_released_file(file: Path) -> None:
    """Check that a file is a PyTorch checkpoint, with clearer messages than torch gives.

    Args:
        file: Path of the file.

    Raises:
        CheckpointError: The file is missing, or torch did not write it.
    """
    if file.is_dir():
        raise CheckpointError(f"{file} is a folder; name the released file, which ends in .pth.")
    if not file.is_file():
        raise CheckpointError(f"There is no file {file}; download the checkpoint first.")
    if file.suffix == ".safetensors":
        raise CheckpointError(
            f"{file} holds weights without the settings of a released checkpoint, which ends in .pth; a "
            "folder that has a config.json beside such a file needs no conversion."
        )
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file} is empty; download it again.")
    if not _is_archive(file):
        raise CheckpointError(
            f"{file} is damaged or no PyTorch checkpoint (perhaps a page that was saved instead of the "
            "file); download it again."
        )


def _is_archive(file: Path) -> bool:
    """Whether a file has the form that torch has written since 2020."""
    try:
        with ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (BadZipFile, OSError):
        return False
