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
    """Rank of the first correct box: the first that overlaps any true box by half or more.

    Args:
        ranked_boxes: (Q, 4) x0, y0, x1, y1 in pixels, best first.
        true_boxes: (N, 4) x0, y0, x1, y1 in pixels.
        overlap: torchvision's `box_iou`, or `generalized_box_iou`.

    Returns:
        Rank, counted from 0; infinity where no box is correct.
    """
    correct = (overlap(ranked_boxes, true_boxes) >= MIN_OVERLAP).any(1).nonzero()
    return float(correct[0, 0]) if len(correct) else float("inf")


def recall_at(ranks: NDArray[np.float32], tops: Iterable[int] = TOPS) -> dict[int, float]:
    """Fraction of the queries with a correct box among the first k.

    Args:
        ranks: (n,) ranks of the first correct boxes (`first_hit`), n at least 1.
        tops: Values of k.

    Returns:
        k -> fraction.
    """
    return {k: float((ranks < k).mean()) for k in tops}


def order_by_score(scores: Tensor, boxes: Tensor) -> Tensor:
    """Order boxes by score, best first; of equal scores, the box with the larger coordinates comes first.

    Args:
        scores: (Q,) scores.
        boxes: (Q, 4) boxes in any format.

    Returns:
        (Q,) int64 indices.
    """
    keys = torch.cat([scores[:, None], boxes], 1).double().numpy()
    return torch.from_numpy(np.lexsort(keys.T[::-1])[::-1].copy())


def enclosing_box(boxes: Tensor) -> Tensor:
    """Smallest box that encloses all boxes.

    Args:
        boxes: (N, 4) x0, y0, x1, y1, N at least 1.

    Returns:
        (1, 4) x0, y0, x1, y1.
    """
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])[None]
