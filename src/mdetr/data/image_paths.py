"""Paths of images that annotations and stores name, which may come from strangers."""

from __future__ import annotations

import os
from pathlib import Path

from mdetr.errors import InvalidInputError


def is_inside(folder: Path, name: str) -> bool:
    """Return whether a path is that of something in a folder, and does not leave it by ".." or from the root.

    Symbolic links in the folder are followed: its owner has put them there.

    Args:
        folder: The folder.
        name: Path relative to the folder, or an absolute one.

    Returns:
        Whether it is.
    """
    try:
        path = folder / name
        if Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
            return True
        return path.resolve().is_relative_to(folder.resolve())  # an absolute path beyond a link to the folder
    except (OSError, ValueError, RuntimeError):  # a null character, or links in a circle
        return False


def image_path(image_root: Path | None, name: str) -> Path:
    """Return the file of an image that a store names.

    Args:
        image_root: Folder of the store's images; None if it embeds them.
        name: Path of the image relative to the folder.

    Returns:
        The path.

    Raises:
        InvalidInputError: The image is outside the folder, or there is none.
    """
    if image_root is None:
        raise InvalidInputError(
            f"The store names the image {name}, but has no folder of images; import its data again."
        )
    if not is_inside(image_root, name):
        raise InvalidInputError(outside(image_root, name))
    return image_root / name


def outside(image_root: Path, name: str) -> str:
    """Say in a sentence that an image is not in the folder of the images."""
    return (
        f"The image {name} is outside the folder {image_root} of the images; if you trust the annotations, "
        "write its path in them relative to a folder that holds all images, and name that folder with "
        "--images (in a recipe: images, beside store)."
    )
