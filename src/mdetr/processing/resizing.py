"""Resizing of images and of maps of numbers, as arrays."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from PIL import Image

from mdetr.processing.coordinates import Size


def resize_image(image: UInt8[np.ndarray, "height width 3"], size: Size) -> UInt8[np.ndarray, "_ _ 3"]:
    """Resize an image to (height, width), bilinearly and antialiased.

    Source: Pillow, with which the released models were trained and evaluated.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_linearly(
    values: Float32[np.ndarray, "height width"], size: Size
) -> Float32[np.ndarray, "{size[0]} {size[1]}"]:
    """Interpolate a map of numbers bilinearly to (height, width); its corners are the pixels' outer edges."""
    for axis, length in enumerate(size):
        lower, upper, fraction = _neighbors(values.shape[axis], length)
        fraction = fraction.reshape((-1, 1) if axis == 0 else (1, -1))
        below = values.take(lower, axis)
        values = below + fraction * (values.take(upper, axis) - below)
    return values


def _neighbors(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Find the two old positions around each of the new ones, and the fraction of the way between them."""
    positions = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    lower = positions.astype(np.intp)
    return lower, np.minimum(lower + 1, old - 1), (positions - lower).astype(np.float32)
