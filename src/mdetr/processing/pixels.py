"""`PixelProcessor`: resizing, normalizing and padding of images, as arrays of numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from mdetr.errors import InvalidInputError
from mdetr.processing.layouts import resized_size
from mdetr.processing.resizing import resize_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PUBLISHED_SIZE = MappingProxyType({"shortest_edge": 800, "longest_edge": 1333})


class PixelProcessor:
    """Resizes, normalizes and pads images; `MdetrImageProcessor` is one for transformers.

    Args:
        do_resize: Whether to resize images.
        size: {"shortest_edge": ..., "longest_edge": ...}, in pixels; None keeps the original sizes.
        image_mean: Mean of each channel, for values from 0 to 1.
        image_std: Standard deviation of each channel.
        pad_to_multiple: Multiple that the padded height and width are rounded up to, for fewer different
            shapes; None to pad only to the largest image of the batch.

    Raises:
        InvalidInputError: A value cannot be used.

    Source: arXiv 2104.12763, appendix A; the resizing is DETR's.
    """

    size: dict[str, int] | None

    def __init__(
        self,
        do_resize: bool = True,
        size: Mapping[str, int] | None = PUBLISHED_SIZE,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        pad_to_multiple: int | None = None,
    ) -> None:
        _check_settings(size, image_mean, image_std, pad_to_multiple)
        self.do_resize = do_resize
        self.size = None if size is None else dict(size)
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.pad_to_multiple = pad_to_multiple

    def resize(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "resized_height resized_width 3"]:
        """Resize an image (bilinear, antialiased), if the configuration says so."""
        if not self.do_resize or self.size is None:
            return image
        height, width, _ = image.shape
        size = resized_size((height, width), self.size["shortest_edge"], self.size.get("longest_edge"))
        return resize_image(image, size)

    def pad(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> dict[str, NDArray[Any]]:
        """Normalize images, and pad them at the right and bottom to the size of the largest.

        Args:
            images: I images (H, W, 3).

        Returns:
            pixel_values (I, 3, H, W) float32 and pixel_mask (I, H, W) int64, 1 on the image.
        """
        # Allocate the batch
        height = self._round_up(max(image.shape[0] for image in images))
        width = self._round_up(max(image.shape[1] for image in images))
        mean = np.array(self.image_mean, np.float32).reshape(3, 1, 1)
        std = np.array(self.image_std, np.float32).reshape(3, 1, 1)
        pixel_values = np.zeros((len(images), 3, height, width), np.float32)
        pixel_mask = np.zeros((len(images), height, width), np.int64)

        # Fill in each image
        for image, values, mask in zip(images, pixel_values, pixel_mask, strict=True):
            h, w = image.shape[:2]
            normalized = values[:, :h, :w]
            normalized[:] = image.transpose(2, 0, 1)
            normalized /= 255
            normalized -= mean
            normalized /= std
            mask[:h, :w] = 1
        return {"pixel_values": pixel_values, "pixel_mask": pixel_mask}

    def _round_up(self, size: int) -> int:
        multiple = self.pad_to_multiple or 1
        return math.ceil(size / multiple) * multiple


def is_positive(value: object) -> bool:
    """Return whether a value is a positive whole number."""
    return type(value) is int and value > 0


def _check_settings(
    size: object, image_mean: Sequence[float], image_std: Sequence[float], pad_to_multiple: object
) -> None:
    """Check what a file of a processor may have garbled, and raise `InvalidInputError`."""
    if size is not None and not (
        isinstance(size, Mapping)
        and is_positive(size.get("shortest_edge"))
        and (size.get("longest_edge") is None or is_positive(size["longest_edge"]))
    ):
        raise InvalidInputError(
            f'size must have a "shortest_edge", and may have a "longest_edge", in pixels, got {size!r:.60}.'
        )
    for name, values, lowest in (("image_mean", image_mean, -math.inf), ("image_std", image_std, 0)):
        are_numbers = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
        if not are_numbers or len(values) != 3 or not all(lowest < value < math.inf for value in values):
            kind = "positive numbers" if lowest == 0 else "numbers"
            raise InvalidInputError(f"{name} must be three {kind}, got {values!r:.60}.")
    if pad_to_multiple is not None and not is_positive(pad_to_multiple):
        raise InvalidInputError(
            f"pad_to_multiple must be a positive whole number, got {pad_to_multiple!r:.60}."
        )
