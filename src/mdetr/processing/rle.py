"""COCO run-length encoding of masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mdetr.errors import InvalidInputError, MissingDependencyError

_MIN_POINTS = 3  # of a polygon; lines and points have no area
_FARTHEST = 1e12  # pixels; farther points count as this far, so that no difference of two overflows
_MAX_OUTLINE = 2e6  # pixels; what drawing a polygon needs in memory grows with the length of its outline


def decode_masks(masks: Sequence[bytes], height: int, width: int) -> Tensor:
    """COCO compressed RLE counts -> (n, height, width) uint8 of 0 and 1.

    Raises:
        InvalidInputError: the run lengths are damaged, or those of an image of another size.
    """
    rle = _rle()
    if not masks:
        return torch.zeros(0, height, width, dtype=torch.uint8)
    try:
        decoded = rle.decode([{"size": [height, width], "counts": counts} for counts in masks])  # (H, W, n)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise InvalidInputError(
            f"a mask's run lengths are not those of {width} x {height} pixels ({_first_line(error)})"
        ) from None
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1)))


def encode_masks(masks: Tensor) -> tuple[bytes, ...]:
    """(n, H, W) uint8 of 0 and 1 -> COCO compressed RLE counts."""
    encoded = _rle().encode(np.asfortranarray(masks.permute(1, 2, 0).numpy()))
    return tuple(bytes(entry["counts"]) for entry in encoded)


def encode_segmentation(segmentation: Any, height: int, width: int) -> bytes | None:
    """COCO's "segmentation" in any of its three forms -> COCO compressed RLE counts.

    Args:
        segmentation: a list of polygons, or an object with "size" and "counts", which are a list of run
            lengths or a text of compressed ones.
        height, width: of the image, in pixels.

    Returns:
        The counts; None where there is no mask: nothing, or an empty list.

    Raises:
        InvalidInputError: it is none of these, or of another size than the image, or damaged.
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


def encode_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> bytes:
    """The union of polygons, each x0, y0, x1, y1, ... in pixels -> COCO compressed RLE counts.

    Lines and points among them are left out. What lies far outside the image is cut off first, as drawing it
    would take memory without bound.

    Raises:
        InvalidInputError: a polygon is no list of finite numbers in pairs, or all lie outside the image.
    """
    _check_size(height, width)
    outlines = [_to_outline(polygon) for polygon in polygons]
    outlines = [outline for outline in outlines if len(outline) >= _MIN_POINTS]
    if not outlines:
        raise InvalidInputError("its mask has no polygon of three points or more")
    seen = [o for o in outlines if (o.max(0) > 0).all() and (o.min(0) < (width, height)).all()]
    cut = [_cut(outline, width, height) for outline in seen]
    cut = [outline for outline in cut if len(outline) >= _MIN_POINTS]
    if not cut:
        raise InvalidInputError("its mask lies outside the image")
    rle = _rle()
    drawn = rle.frPyObjects([outline.ravel().tolist() for outline in cut], height, width)
    return bytes(rle.merge(drawn)["counts"])


def encode_run_lengths(segmentation: Mapping[str, Any], height: int, width: int) -> bytes:
    """COCO's run lengths, compressed (a text) or not (a list) -> COCO compressed RLE counts.

    Args:
        segmentation: "counts", and "size" (height, width), which may be missing.
        height, width: of the image, in pixels.

    Raises:
        InvalidInputError: they are damaged, or of another size than the image.
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
        raise InvalidInputError("its mask's run lengths must be whole numbers from 0 on, or compressed ones")
    if sum(counts) != height * width:
        raise InvalidInputError(
            f"its mask's run lengths make {sum(counts)} pixels, but its image has {height * width}"
        )
    rle = _rle()
    return bytes(rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"])


def mask_area(counts: bytes, height: int, width: int) -> int:
    """How many pixels of a mask, given as COCO compressed RLE counts, are set."""
    return int(_rle().area([{"size": [height, width], "counts": counts}])[0])


def run_lengths(mask: Tensor) -> dict[str, list[int]]:
    """(H, W) bool -> COCO's uncompressed RLE: lengths of runs down the columns, zeros first."""
    values = np.concatenate([[0], mask.T.flatten().to(torch.uint8).numpy(), [0]])
    changes = np.flatnonzero(np.diff(values))
    ends = np.concatenate([[0], changes, [mask.numel()]])
    counts = np.diff(ends)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}


def _check_size(height: int, width: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise InvalidInputError(f"its image of {width} x {height} pixels is too large for masks")


def _to_outline(polygon: Any) -> np.ndarray:
    """A polygon x0, y0, x1, y1, ... -> its points (n, 2)."""
    is_list = isinstance(polygon, list | tuple)
    if not is_list or not all(type(value) in (int, float) for value in polygon) or len(polygon) % 2:
        raise InvalidInputError("a polygon of its mask must be a list of numbers, x and y in turn")
    if not all(abs(value) < math.inf for value in polygon):  # NaN is not below either
        raise InvalidInputError("a polygon of its mask is not finite")
    limited = [min(max(value, -_FARTHEST), _FARTHEST) for value in polygon]
    return np.array(limited, dtype=np.float64).reshape(-1, 2)


def _cut(outline: np.ndarray, width: int, height: int) -> np.ndarray:
    """A polygon (n, 2), cut at a frame a whole image wide around the image.

    Ones that leave the image by less than that are kept as they are, so that they are drawn to the pixel as
    COCO's own program does.
    """
    for axis, side in enumerate((width, height)):
        for edge, sign in ((-side, 1), (2 * side, -1)):  # keep what is above -side, and below 2 * side
            outline = _cut_at(outline, axis, edge, sign)
    steps = np.abs(np.diff(outline, axis=0, append=outline[:1])).max(1)
    if steps.sum() > _MAX_OUTLINE:
        raise InvalidInputError("a polygon of its mask has too long an outline")
    return outline


def _cut_at(outline: np.ndarray, axis: int, edge: float, sign: int) -> np.ndarray:
    """The part of a polygon (n, 2) on one side of a line, by the rule of Sutherland and Hodgman."""
    distance = sign * (outline[:, axis] - edge)
    if (distance >= 0).all():
        return outline
    kept: list[np.ndarray] = []
    for place in range(len(outline)):
        before, here = outline[place - 1], outline[place]
        if (distance[place - 1] >= 0) != (distance[place] >= 0):
            share = distance[place - 1] / (distance[place - 1] - distance[place])
            kept.append(before + share * (here - before))
        if distance[place] >= 0:
            kept.append(here)
    return np.array(kept).reshape(-1, 2)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].removesuffix(".")


def _rle() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise MissingDependencyError(
            "Masks need the package faster-coco-eval; install it with `pip install 'mdetr[masks]'`."
        ) from None
    return mask
