"""Writing of picture files."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import EpsImagePlugin, Image

from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write

# Formats that Pillow recognizes, but decodes only with the help of another program
_FOREIGN = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF"})


def is_picture_name(path: Path) -> bool:
    """Return whether a name has the suffix of an image format."""
    return path.suffix.lower() in Image.registered_extensions()


def readable_suffixes() -> set[str]:
    """List the suffixes of the image formats that Pillow can decode on this machine, such as ".png"."""
    extensions = Image.registered_extensions()
    foreign = _FOREIGN if EpsImagePlugin.has_ghostscript() else {*_FOREIGN, "EPS"}
    return {suffix for suffix, kind in extensions.items() if kind in Image.OPEN and kind not in foreign}


def check_picture_name(path: Path) -> None:
    """Check that a picture can be written under a name, by writing a small one to memory.

    Args:
        path: File to write later.

    Raises:
        InvalidInputError: The name has no suffix of an image format, or of one that Pillow cannot write.
    """
    image_format = _writable_format(path)
    try:
        # Some formats are registered, but cannot store colors or need a library that is not installed
        Image.new("RGB", (16, 16)).save(io.BytesIO(), image_format)
    except (KeyError, OSError, ValueError):
        raise InvalidInputError(_read_only(path)) from None


def check_picture_path(path: Path) -> None:
    """Check that a picture can be written to a path.

    Args:
        path: File to write later.

    Raises:
        InvalidInputError: The folder does not exist, or the name has no suffix of a writable image format.
    """
    check_picture_name(path)
    _check_folder(path)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture completely or not at all.

    Args:
        picture: The picture.
        path: File to write.

    Raises:
        InvalidInputError: The folder does not exist, or the name has no suffix of a writable image format.
    """
    _writable_format(path)
    _check_folder(path)
    with atomic_write(path) as file:
        picture.save(file)


def _writable_format(path: Path) -> str:
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format is None:
        raise InvalidInputError(f"{path} has no image suffix; choose a .png or .jpg file.")
    if image_format not in Image.SAVE:
        raise InvalidInputError(_read_only(path))
    return image_format


def _read_only(path: Path) -> str:
    return f"{path} cannot be written: {path.suffix} files can only be read; choose a .png or .jpg file."


def _check_folder(path: Path) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; choose a picture in it.")
    if not path.parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.parent} to write {path.name} to; create it first.")
