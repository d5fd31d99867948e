"""Files and sizes of the images that annotations name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from mdetr.data.image_paths import is_inside, outside
from mdetr.data.record import Record
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.files import is_file
from mdetr.processing.images import image_size

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
)
LOOKED_AT = 1000  # images of an import whose sizes are compared


def find_image(folder: Path, name: str) -> str | None:
    r"""The name of an image's file as it is in a folder; None if there is no such file.

    Annotation tools on Windows write `imgs\a.png`: a backslash separates folders unless a file is named so.
    Accented letters may be composed in another way than in the file's name, as macOS changes them. Of a path
    from the root of another machine, as much of its end counts as there is in the folder. Files outside the
    folder are not found, because the annotations may come from strangers.
    """
    path = _find_as_named(folder, name)
    if path is None and (name.startswith(("/", "\\")) or PureWindowsPath(name).drive):
        return find_by_path(folder, name)
    return path


def _find_as_named(folder: Path, name: str) -> str | None:
    spelled = (name, name.replace("\\", "/"))
    composed = (unicodedata.normalize(form, spelled[1]) for form in ("NFC", "NFD"))
    for candidate in dict.fromkeys((*spelled, *composed)):
        # is_file is false for names that are too long, or have a null character
        if candidate and is_file(folder / candidate) and is_inside(folder, candidate):
            return candidate
    return None


def find_by_path(folder: Path, path: str) -> str | None:
    r"""The file in a folder whose path there is as much of the end of a path as there is; None for none.

    Lists of images that were made elsewhere name them so: "/home/me/data/images/a.png", "C:\\data\\a.png".
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        image = _find_as_named(folder, "/".join(parts[start:]))
        if image is not None:
            return image
    return None


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def with_found_images(
    records: Iterable[Record], folder: Path, missing: dict[str, None], misfits: dict[str, str]
) -> Iterator[Record]:
    """Replace the image of each record by the path of an existing file; see `find_image`.

    Args:
        records: Records; those without an existing image stay unchanged.
        folder: Folder that the image paths are relative to.
        missing: Receives the path of each image that does not exist.
        misfits: Receives the path of each image whose size differs from its record, and the difference. Only
            the first `LOOKED_AT` images are checked, because each has to be opened.

    Yields:
        The records.

    Raises:
        InvalidRecordError: An image is outside the folder.
    """
    name, path, looked_at = "", None, 0
    for record in records:
        if isinstance(record.image, bytes):
            yield record
            continue
        if record.image != name:
            name, path = record.image, find_image(folder, record.image)
            if path is None and not is_inside(folder, name):
                raise InvalidRecordError(outside(folder, name), part="image")
            if path is None:
                missing[name] = None
            elif looked_at < LOOKED_AT:
                looked_at += 1
                problem = _misfit_of(record, folder / path)
                if problem is not None:
                    misfits[path] = problem
        yield record if path is None or path == name else replace(record, image=path)


def _misfit_of(record: Record, image: Path) -> str | None:
    """Describe how the size of an image differs from its record; None if it agrees or cannot be read."""
    try:
        height, width = image_size(image)
    except InvalidInputError:
        return None  # training reports and skips it
    if (width, height) == (record.width, record.height):
        return None
    return f"{width} x {height} pixels instead of {record.width} x {record.height}"


class ImageSizes:
    """Finds images in a folder, and reads and keeps sizes: texts of one image often follow each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._image = ""
        self._size = (0, 0)

    def locate(self, image: str, where: str) -> tuple[str, int, int]:
        """Find an image, and read its size.

        Args:
            image: Path in the annotations, relative to the folder.
            where: File and entry, for messages.

        Returns:
            Path of the image in the folder, and width and height of the upright image, in pixels.

        Raises:
            InvalidRecordError: The image is missing or damaged.
        """
        if image != self._name or not image:
            path = find_image(self._folder, image)
            if path is None and image and not is_inside(self._folder, image):
                raise InvalidRecordError(f"{where}: {outside(self._folder, image)}", part="image")
            if path is None:
                raise InvalidRecordError(
                    f"{where}: {self._folder / image} is missing or not an image; name the folder that its "
                    "images are relative to with --images.",
                    part="image",
                )
            try:
                height, width = image_size(self._folder / path)
            except InvalidInputError as error:
                raise InvalidRecordError(
                    f"{where}: its image is missing or not an image: {error}", part="image"
                ) from None
            self._name, self._image, self._size = image, path, (width, height)
        return self._image, *self._size

    def __call__(self, image: str, where: str) -> tuple[int, int]:
        """The width and height of an image alone; see `locate`."""
        return self.locate(image, where)[1:]
