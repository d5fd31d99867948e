"""Names of images in, their sizes from the files' headers out."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from mdetr.errors import InvalidRecordError


class ImageSizes:
    """Reads sizes of images in a folder; keeps the last, as texts of one image follow each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = ""
        self._size = (0, 0)

    def __call__(self, image: str, where: str) -> tuple[int, int]:
        """The width and height of an image, in pixels; `where` is named in errors.

        Raises:
            InvalidRecordError: the image is missing or damaged.
        """
        if image != self._image:
            try:
                with Image.open(self._folder / image) as opened:
                    self._size = opened.size
            except (OSError, ValueError):
                raise InvalidRecordError(
                    f"{where}: {self._folder / image} is missing or not an image."
                ) from None
            self._image = image
        return self._size
