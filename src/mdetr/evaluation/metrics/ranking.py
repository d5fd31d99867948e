"""Ranking of boxes by score, and rank of the first correct one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

TOPS = (1, 5, 10)
MIN_OVERLAP = 0.5

Overlap = Callable[[Tensor, Tensor], Tensor]


def first_hit(ranked_boxes: Tensor, true_boxes: Tensor, overlap: Overlap = box_iou) -> float:
    """Find the first of the ranked boxes that is right: it overlaps some true box by half or more.

    Args:
        ranked_boxes: (Q, 4) x0, y0, x1, y1 in pixels, best first.
        true_boxes: (N, 4), the same; any of them will do.
        overlap: torchvision's `box_iou`, or `generalized_box_iou`.

    Returns:
        Its place, counted from 0; infinity where none is right.
    """
    right = (overlap(ranked_boxes, true_boxes) >= MIN_OVERLAP).any(1).nonzero()
    return float(right[0, 0]) if len(right) else float("inf")


def share_within(places: NDArray[np.float32], tops: Iterable[int] = TOPS) -> dict[int, float]:
    """Say, for each k, for which share of the questions one of the first k boxes was right.

    Args:
        places: (n,) of `first_hit`, n at least 1.
        tops: the k.

    Returns:
        k -> share.
    """
    return {k: float((places < k).mean()) for k in tops}


def order_by_score(scores: Tensor, boxes: Tensor) -> Tensor:
    """Order boxes by score, best first; of equal scores the box with the larger coordinates comes first.

    Args:
        scores: (Q,).
        boxes: (Q, 4).

    Returns:
        (Q,) int64 indices.
    """
    keys = torch.cat([scores[:, None], boxes], 1).double().numpy()
    return torch.from_numpy(np.lexsort(keys.T[::-1])[::-1].copy())


def enclosing_box(boxes: Tensor) -> Tensor:
    """The one box (1, 4) that encloses all the boxes (N, 4), N at least 1, given as x0, y0, x1, y1."""
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])[None]
