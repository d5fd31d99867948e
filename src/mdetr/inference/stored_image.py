"""Images that results refer to without keeping their pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from mdetr.errors import InvalidInputError
from mdetr.processing.images import ImageInput, load_image


@dataclass(frozen=True)
class StoredImage:
    """An image that is read from its file again when it is looked at, so that it takes no memory until then.

    Args:
        source: A path, an address, or the bytes of an encoded image.
        width: Of the upright picture, in pixels.
        height: Of the upright picture, in pixels.
    """

    source: str | os.PathLike[str] | bytes = field(repr=False)
    width: int
    height: int

    def load(self) -> Image.Image:
        """Read the picture.

        Returns:
            The upright picture in RGB.

        Raises:
            InvalidInputError: The file is gone, damaged, or holds a picture of another size than it did.
        """
        image = to_pil_image(load_image(self.source))
        if image.size != (self.width, self.height):
            raise InvalidInputError(
                f"The image has changed since it was searched: it had {self.width} x {self.height} pixels "
                f"and has {image.width} x {image.height} now; search it again."
            )
        return image


Picture = Image.Image | StoredImage
"""An image in a result: with its pixels, or where they can be read again; both have a width and a height."""


def as_picture(image: ImageInput, pixels: Tensor, keep: bool) -> Picture:
    """What a result holds of an image.

    Args:
        image: As it was given.
        pixels: (3, H, W) uint8, what was read of it.
        keep: Whether the pixels are kept even where they can be read again.
    """
    if keep or not isinstance(image, str | os.PathLike | bytes):
        return to_pil_image(pixels)
    return StoredImage(image, pixels.shape[-1], pixels.shape[-2])
