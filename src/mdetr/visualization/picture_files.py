"""Writing of picture files."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import EpsImagePlugin, Image

from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write

# Formats that Pillow tells by name, and decodes only with what another program adds.
_FOREIGN = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF"})


def is_picture_name(path: Path) -> bool:
    """Whether a name ends as those of pictures do."""
    return path.suffix.lower() in Image.registered_extensions()


def readable_suffixes() -> set[str]:
    """The suffixes of the kinds of files that Pillow can decode here, such as ".png"."""
    extensions = Image.registered_extensions()
    foreign = _FOREIGN if EpsImagePlugin.has_ghostscript() else {*_FOREIGN, "EPS"}
    return {suffix for suffix, kind in extensions.items() if kind in Image.OPEN and kind not in foreign}


def check_picture_name(path: Path) -> None:
    """See that a picture can be written under a name, by writing a small one into memory.

    Raises:
        InvalidInputError: The name has no suffix of a picture, or one that Pillow reads but cannot write.
    """
    kind = _writable_kind(path)
    try:
        # Some formats are registered and still cannot hold colors, or need a library that is not here.
        Image.new("RGB", (16, 16)).save(io.BytesIO(), kind)
    except (KeyError, OSError, ValueError):
        raise InvalidInputError(_only_read(path)) from None


def check_picture_path(path: Path) -> None:
    """See that a picture can be written at a path.

    Raises:
        InvalidInputError: The folder is missing, or no picture can be written under the name.
    """
    check_picture_name(path)
    _check_place(path)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all.

    Raises:
        InvalidInputError: The folder is missing, or no picture can be written under the name.
    """
    _writable_kind(path)
    _check_place(path)
    with atomic_write(path) as file:
        picture.save(file)


def _writable_kind(path: Path) -> str:
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise InvalidInputError(f"{path} has no image suffix; name a .png or .jpg file.")
    if kind not in Image.SAVE:
        raise InvalidInputError(_only_read(path))
    return kind


def _only_read(path: Path) -> str:
    return f"{path} cannot be written: {path.suffix} files are only read here; name a .png or .jpg file."


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name a picture in it.")
    if not path.parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.parent} to write {path.name} to; create it first.")
