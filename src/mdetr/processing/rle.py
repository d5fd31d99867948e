"""COCO run-length encoding of masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from PIL import Image

from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.extras import install_command

_MIN_POINTS = 3  # points of a polygon; fewer have no area
_FARTHEST = 1e12  # pixels; coordinates are limited to this, so that differences do not overflow
_MAX_OUTLINE = 2e6  # pixels; memory for drawing a polygon grows with the length of its outline


def decode_masks(
    masks: Sequence[bytes], height: int, width: int
) -> UInt8[np.ndarray, "masks {height} {width}"]:
    """Decode masks from COCO compressed RLE.

    Args:
        masks: Compressed counts of n masks.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        n masks of 0 and 1.

    Raises:
        InvalidInputError: The run lengths are damaged, or belong to an image of another size.
    """
    rle = _rle()
    if not masks:
        return np.zeros((0, height, width), np.uint8)
    try:
        decoded = rle.decode([{"size": [height, width], "counts": counts} for counts in masks])  # (H, W, n)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise InvalidInputError(
            f"a mask's run lengths are not those of {width} x {height} pixels ({_first_line(error)})"
        ) from None
    return np.ascontiguousarray(decoded.transpose(2, 0, 1))


def encode_masks(masks: UInt8[np.ndarray, "masks height width"]) -> tuple[bytes, ...]:
    """Encode masks of 0 and 1 as COCO compressed RLE."""
    encoded = _rle().encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    return tuple(bytes(entry["counts"]) for entry in encoded)


def encode_segmentation(segmentation: Any, height: int, width: int) -> bytes | None:
    """Encode a "segmentation" of COCO, in any of its three forms, as COCO compressed RLE.

    Args:
        segmentation: A list of polygons, or an object with "size" and "counts", which are a list of run
            lengths or a string of compressed ones.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        The counts; None if there is no mask: None, or an empty list.

    Raises:
        InvalidInputError: The segmentation is none of these, has another size than the image, or is damaged.
    """
    if segmentation is None or (isinstance(segmentation, list) and not segmentation):
        return None
    if isinstance(segmentation, Mapping):
        counts = encode_run_lengths(segmentation, height, width)
        if not mask_area(counts, height, width):
            raise InvalidInputError("its mask has no pixel")
        return counts
    if isinstance(segmentation, list):
        return encode_polygons(segmentation, height, width)
    raise InvalidInputError("its mask must be a list of polygons, or run lengths with their size")


def encode_polygons(polygons: Sequence[object], height: int, width: int) -> bytes:
    """Encode the union of polygons as COCO compressed RLE.

    Lines and points are left out. Parts far outside the image are cut off first, because the memory for
    drawing them has no bound.

    Args:
        polygons: Lists x0, y0, x1, y1, ... in pixels.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        The counts.

    Raises:
        InvalidInputError: A polygon is not a list of pairs of finite numbers, or all are outside the image.
    """
    _check_size(height, width)

    # Drop lines and points
    outlines = [_to_outline(polygon) for polygon in polygons]
    outlines = [outline for outline in outlines if len(outline) >= _MIN_POINTS]
    if not outlines:
        raise InvalidInputError("its mask has no polygon of three points or more")

    # Keep the polygons that meet the image, and cut off what is far outside
    inside: list[NDArray[np.float64]] = []
    for outline in outlines:
        if (outline.max(0) > 0).all() and (outline.min(0) < (width, height)).all():
            outline = _cut(outline, width, height)
            if len(outline) >= _MIN_POINTS:
                inside.append(outline)
    if not inside:
        raise InvalidInputError("its mask lies outside the image")

    # Draw their union
    rle = _rle()
    drawn = rle.frPyObjects([outline.ravel().tolist() for outline in inside], height, width)
    return bytes(rle.merge(drawn)["counts"])


def encode_run_lengths(segmentation: Mapping[str, Any], height: int, width: int) -> bytes:
    """Encode run lengths of COCO, compressed (a string) or not (a list), as COCO compressed RLE.

    Args:
        segmentation: "counts", and optionally "size" (height, width).
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        The counts.

    Raises:
        InvalidInputError: The run lengths are damaged, or have another size than the image.
    """
    _check_size(height, width)
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size is not None and size != [height, width]:
        raise InvalidInputError(f"its mask's size is {size!r:.40}, its image's is {[height, width]}")
    if isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
    if isinstance(counts, bytes):
        decode_masks([counts], height, width)
        return counts
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise InvalidInputError("its mask's run lengths must be non-negative integers, or compressed")
    if sum(counts) != height * width:
        raise InvalidInputError(
            f"its mask's run lengths make {sum(counts)} pixels, but its image has {height * width}"
        )
    rle = _rle()
    return bytes(rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"])


def mask_area(counts: bytes, height: int, width: int) -> int:
    """Count the pixels of a mask that is given as COCO compressed RLE."""
    return int(_rle().area([{"size": [height, width], "counts": counts}])[0])


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> dict[str, list[int]]:
    """Encode a mask as COCO uncompressed RLE: run lengths down the columns, zeros first."""
    values = np.concatenate([[0], mask.T.ravel().astype(np.uint8), [0]])
    changes = np.flatnonzero(np.diff(values))
    ends = np.concatenate([[0], changes, [mask.size]])
    counts = np.diff(ends)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}


def _check_size(height: int, width: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise InvalidInputError(f"its image of {width} x {height} pixels is too large for masks")


def _to_outline(polygon: Any) -> NDArray[np.float64]:
    """Convert a polygon x0, y0, x1, y1, ... to points (n, 2)."""
    is_list = isinstance(polygon, list | tuple)
    if not is_list or not all(type(value) in (int, float) for value in polygon) or len(polygon) % 2:
        raise InvalidInputError("a polygon of its mask must be a list of numbers, x and y alternating")
    if not all(abs(value) < math.inf for value in polygon):  # False for NaN too
        raise InvalidInputError("a polygon of its mask is not finite")
    limited = [min(max(value, -_FARTHEST), _FARTHEST) for value in polygon]
    return np.array(limited, dtype=np.float64).reshape(-1, 2)


def _cut(outline: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Cut a polygon (n, 2) at a frame around the image, one image size away.

    A polygon within the frame stays unchanged, and is drawn exactly as by COCO's own program.
    """
    for axis, side in enumerate((width, height)):
        for edge, sign in ((-side, 1), (2 * side, -1)):  # keep coordinates above -side and below 2 * side
            outline = _cut_at(outline, axis, edge, sign)
    steps = np.abs(np.diff(outline, axis=0, append=outline[:1])).max(1)
    if steps.sum() > _MAX_OUTLINE:
        raise InvalidInputError("the outline of a polygon of its mask is too long")
    return outline


def _cut_at(outline: NDArray[np.float64], axis: int, edge: float, sign: int) -> NDArray[np.float64]:
    """Return the part of a polygon (n, 2) on one side of a line (Sutherland-Hodgman algorithm)."""
    distance = sign * (outline[:, axis] - edge)
    if (distance >= 0).all():
        return outline
    kept: list[NDArray[np.float64]] = []
    for index in range(len(outline)):
        previous, current = outline[index - 1], outline[index]
        if (distance[index - 1] >= 0) != (distance[index] >= 0):
            fraction = distance[index - 1] / (distance[index - 1] - distance[index])
            kept.append(previous + fraction * (current - previous))
        if distance[index] >= 0:
            kept.append(current)
    return np.array(kept).reshape(-1, 2)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].removesuffix(".")


def _rle() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise MissingDependencyError(
            f"Masks need the package faster-coco-eval; install it with {install_command('masks')}."
        ) from None
    return mask
