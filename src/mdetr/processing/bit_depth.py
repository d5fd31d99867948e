"""Gray images of more than 8 bits, converted strip by strip to save memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from mdetr.processing.coordinates import Size

_STRIP = 1 << 20  # pixels that are converted at once


def to_8_bit(image: Image.Image) -> Image.Image:
    """Scale gray images of more than 8 bits, because PIL's own conversion clips them at 255.

    Of 16 bits the high byte is used.

    Args:
        image: Image of any mode.

    Returns:
        An image of 8 bits per channel, which is the given one if it already is.
    """
    if image.mode == "La":  # premultiplied; PIL converts it to no mode but this one
        return image.convert("LA")

    # Read rows in strips, because numpy's copy of a whole image takes three times the memory of its values
    def rows(part: slice) -> Num[np.ndarray, "_ width"]:
        return np.asarray(image.crop((0, part.start, image.width, part.stop)))

    shape = image.height, image.width
    if image.mode == "F":
        return Image.fromarray(_scaled(rows, shape))
    if not image.mode.startswith("I"):
        return image
    parts = strips(shape)
    low = min(int(rows(part).min()) for part in parts)
    high = max(int(rows(part).max()) for part in parts)
    if low < 0 or high > 65535:
        return Image.fromarray(_scaled(rows, shape))
    shift = 0 if image.mode == "I" and high <= 255 else 8
    pixels = np.empty(shape, np.uint8)
    for part in parts:
        pixels[part] = rows(part) >> shift
    return Image.fromarray(pixels)


def strips(shape: Size) -> list[slice]:
    """Divide an image into strips of at most a megapixel.

    Args:
        shape: Height and width of the image.

    Returns:
        The rows of each strip, from top to bottom.
    """
    height, width = shape
    step = max(1, _STRIP // width)
    return [slice(start, min(start + step, height)) for start in range(0, height, step)]


def _scaled(
    rows: Callable[[slice], Num[np.ndarray, "_ width"]], shape: Size
) -> UInt8[np.ndarray, "height width"]:
    """Scale values of any range to uint8, as described in `load_image`.

    Args:
        rows: Gives the values of some rows.
        shape: Height and width of the image.

    Returns:
        The scaled image.
    """
    # Find the range of the finite values
    low, high, are_whole = math.inf, -math.inf, True
    for part in strips(shape):
        values = rows(part)
        known = values[np.isfinite(values)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
            are_whole = are_whole and bool((known == known.round()).all())
    if low > high:
        low = high = 0.0

    # Scale them
    offset, span = low, max(high - low, np.finfo(np.float64).tiny)
    if low >= 0 and high <= 1:
        offset, span = 0.0, 1.0
    elif low >= 0 and high <= 255 and are_whole:
        offset, span = 0.0, 255.0
    scaled = np.zeros(shape, np.uint8)
    for part in strips(shape):
        values = rows(part)
        finite = np.isfinite(values)
        fractions = (np.where(finite, values, 0).astype(np.float64) - offset) / span
        scaled[part] = np.where(finite, (fractions * 255).clip(0, 255).round(), 0)
    return scaled
