"""References to images, for results that do not keep pixels in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdetr.errors import InvalidInputError
from mdetr.processing.images import ImageInput, load_image


@dataclass(frozen=True)
class StoredImage:
    """Reference to an image, which is read again when it is needed.

    Attributes:
        source: A path, an address, or the bytes of an encoded image.
        width: Width of the upright image, in pixels.
        height: Height of the upright image, in pixels.
    """

    source: str | os.PathLike[str] | bytes = field(repr=False)
    width: int
    height: int

    def load(self) -> Image.Image:
        """Read the image.

        Returns:
            The upright image in RGB.

        Raises:
            InvalidInputError: The file no longer exists, is damaged, or holds an image of another size.
        """
        image = Image.fromarray(load_image(self.source))
        if image.size != (self.width, self.height):
            raise InvalidInputError(
                f"The image has changed since the prediction: it had {self.width} x {self.height} pixels "
                f"and has {image.width} x {image.height} now; predict again."
            )
        return image


Picture = Image.Image | StoredImage
"""An image of a result: its pixels, or a reference; both have a width and a height."""


def as_picture(image: ImageInput, pixels: NDArray[np.uint8], keep: bool) -> Picture:
    """Make the picture of a result.

    Args:
        image: The image as the caller gave it.
        pixels: (H, W, 3) uint8, its pixels.
        keep: Whether to keep the pixels even if they can be read again.

    Returns:
        The pixels, or a reference to a file, an address or bytes.
    """
    if keep or not isinstance(image, str | os.PathLike | bytes):
        return Image.fromarray(pixels)
    return StoredImage(image, pixels.shape[1], pixels.shape[0])
