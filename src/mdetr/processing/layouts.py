"""Sizes of images on their way into a batch: as given, resized and padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from mdetr.processing.coordinates import Size


@dataclass(frozen=True)
class ImageLayout:
    """Sizes of an image on its way into a batch.

    Attributes:
        given: (height, width) of the original image.
        resized: (height, width) after resizing.
        padded: (height, width) of the batch.
    """

    given: Size
    resized: Size
    padded: Size


def image_layouts(
    given: Sequence[Size], pixel_mask: Int64[np.ndarray, "images height width"]
) -> list[ImageLayout]:
    """Compute the layouts of images from their original sizes and the batch's mask (1 = image)."""
    height, width = pixel_mask.shape[-2:]
    heights, widths = pixel_mask[:, :, 0].sum(1).tolist(), pixel_mask[:, 0].sum(1).tolist()
    layouts: list[ImageLayout] = []
    for size, resized_height, resized_width in zip(given, heights, widths, strict=True):
        layouts.append(ImageLayout(size, (int(resized_height), int(resized_width)), (height, width)))
    return layouts


def resized_size(size: Size, shortest: int, longest: int | None) -> Size:
    """Compute the size of an image after resizing.

    Args:
        size: (height, width) of the image.
        shortest: Length that the shortest side becomes.
        longest: Maximum length of the longest side, for which the shortest side may become shorter; None for
            no maximum.

    Returns:
        (height, width) after resizing.

    Source: DETR; the shortest side is rounded if `longest` applies, and the other side is truncated.
    """
    height, width = size
    small, large = min(size), max(size)
    target = shortest
    if longest is not None and large / small * target > longest:
        target = round(longest * small / large)
        if target == 0:  # an extremely thin image keeps one pixel
            return (longest, 1) if width < height else (1, longest)
    if width < height:
        return int(target * height / width), target
    return target, int(target * width / height)
