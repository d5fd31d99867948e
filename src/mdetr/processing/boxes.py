"""Boxes as arrays: their formats, their overlap, and the suppression of those that overlap better ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy.typing import NDArray

_BLOCK = 128  # boxes that are compared with all others at once, which bounds the memory


def to_corners(boxes_cxcywh: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 4"]:
    """Convert boxes from center x, center y, width, height to x0, y0, x1, y1."""
    centers, half_sizes = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate((centers - half_sizes, centers + half_sizes), axis=-1)


def pairwise_iou(
    a: Float32[np.ndarray, "boxes 4"], b: Float32[np.ndarray, "others 4"]
) -> Float32[np.ndarray, "boxes others"]:
    """Intersection over union of each box of `a` with each of `b`; 0 for two boxes without an area.

    Args:
        a: (n, 4) x0, y0, x1, y1.
        b: (m, 4), the same.

    Returns:
        (n, m), from 0 to 1.
    """
    widths = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0])
    heights = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1])
    intersections = widths.clip(0) * heights.clip(0)
    unions = _areas(a)[:, None] + _areas(b) - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)


def suppress_overlapping(
    boxes_xyxy: Float32[np.ndarray, "boxes 4"],
    scores: Float32[np.ndarray, "boxes"],
    names: Sequence[str],
    max_overlap: float,
) -> Int[np.ndarray, "kept"]:
    """Find the boxes that do not overlap a better one of the same name (non-maximum suppression).

    Args:
        boxes_xyxy: (n, 4) x0, y0, x1, y1.
        scores: (n,) scores; of equal ones, the first box is the better.
        names: n names.
        max_overlap: Maximum intersection over union with a better box, from 0 to 1.

    Returns:
        Indices of the remaining boxes, best first.
    """
    order = np.argsort(-scores, kind="stable")
    ranks_of: dict[str, list[int]] = {}
    for rank, index in enumerate(order.tolist()):
        ranks_of.setdefault(names[index], []).append(rank)

    is_kept = np.zeros(len(order), np.bool_)
    for ranks in ranks_of.values():
        kept = _suppress(boxes_xyxy[order[ranks]], max_overlap)
        is_kept[np.array(ranks)[kept]] = True
    return order[is_kept]


def _suppress(boxes: Float32[np.ndarray, "boxes 4"], max_overlap: float) -> Int[np.ndarray, "kept"]:
    """Find the boxes, which are ordered best first, that do not overlap a better one."""
    kept: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
    remaining = np.arange(len(boxes))
    while len(remaining):
        # Compare the best boxes with each other
        block, remaining = remaining[:_BLOCK], remaining[_BLOCK:]
        overlaps = np.triu(pairwise_iou(boxes[block], boxes[block]) > max_overlap, k=1)
        is_kept = np.ones(len(block), np.bool_)
        for better in np.flatnonzero(overlaps.any(1)):
            if is_kept[better]:
                is_kept &= ~overlaps[better]
        kept.append(block[is_kept])

        # Remove the worse boxes that overlap those that are left
        if len(remaining):
            overlapped = (pairwise_iou(boxes[kept[-1]], boxes[remaining]) > max_overlap).any(0)
            remaining = remaining[~overlapped]
    return np.concatenate(kept)


def _areas(boxes_xyxy: Float32[np.ndarray, "boxes 4"]) -> Float32[np.ndarray, "boxes"]:
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1)
