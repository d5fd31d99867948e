"""L1 and generalized IoU losses of matched boxes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torchvision.ops import box_convert

from mdetr.losses.matches import Matches

# Avoids division by zero for boxes without area; far below the area of one pixel of any image.
_SMALLEST_AREA = 1e-9


def generalized_iou(
    boxes_a: Float[Tensor, "*#batch 4"], boxes_b: Float[Tensor, "*#batch 4"]
) -> Float[Tensor, "*#batch"]:
    """Generalized intersection over union of boxes, elementwise with broadcasting.

    Args:
        boxes_a: (..., 4) x0, y0, x1, y1.
        boxes_b: (..., 4) likewise; shapes broadcast, so (N, 1, 4) and (M, 4) give all pairs.

    Returns:
        (...) values in [-1, 1]; 1 for identical boxes.

    Source: Rezatofighi et al., arXiv 1902.09630.
    """
    overlap, union = _overlap_and_union(boxes_a, boxes_b)
    start = torch.minimum(boxes_a[..., :2], boxes_b[..., :2])
    end = torch.maximum(boxes_a[..., 2:], boxes_b[..., 2:])
    hull = _area(start, end).clamp(min=_SMALLEST_AREA)
    return overlap / union - (hull - union) / hull


@torch.no_grad()
def matched_iou(
    pred_boxes: Float32[Tensor, "layers batch queries 4"],
    boxes: Float32[Tensor, "batch boxes 4"],
    matches: Matches,
) -> Float32[Tensor, "matches"]:
    """Intersection over union of each matched prediction with its box.

    Args:
        pred_boxes: (D, B, Q, 4) float32, relative center x, center y, width, height.
        boxes: (B, N, 4) float32, the target boxes in the same format.
        matches: Matched pairs of queries and boxes.

    Returns:
        (M,) float32 from 0 to 1, without gradient.
    """
    predicted, target = _matched_pairs(pred_boxes, boxes, matches)
    overlap, union = _overlap_and_union(
        box_convert(predicted, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy")
    )
    return overlap / union


def box_losses(
    pred_boxes: Float32[Tensor, "layers batch queries 4"],
    boxes: Float32[Tensor, "batch boxes 4"],
    matches: Matches,
) -> tuple[Float32[Tensor, "layers"], Float32[Tensor, "layers"]]:
    """L1 distance and 1 - GIoU between matched predictions and their boxes, summed per decoder layer.

    Args:
        pred_boxes: (D, B, Q, 4) float32, relative center x, center y, width, height.
        boxes: (B, N, 4) float32, the target boxes in the same format.
        matches: Matched pairs of queries and boxes.

    Returns:
        L1 sums and GIoU sums, (D,) each.

    Source: arXiv 2104.12763, section 2.1 (DETR's box losses).
    """
    predicted, target = _matched_pairs(pred_boxes, boxes, matches)
    l1 = (predicted - target).abs().sum(-1)
    giou = generalized_iou(box_convert(predicted, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy"))
    num_layers = len(pred_boxes)
    return matches.sum_by_layer(l1, num_layers), matches.sum_by_layer(1 - giou, num_layers)


def _matched_pairs(
    pred_boxes: Float32[Tensor, "layers batch queries 4"],
    boxes: Float32[Tensor, "batch boxes 4"],
    matches: Matches,
) -> tuple[Float32[Tensor, "matches 4"], Float32[Tensor, "matches 4"]]:
    predicted = pred_boxes[matches.layer, matches.text, matches.query]
    return predicted, boxes[matches.text, matches.target]


def _overlap_and_union(
    boxes_a: Float[Tensor, "*#batch 4"], boxes_b: Float[Tensor, "*#batch 4"]
) -> tuple[Float[Tensor, "*#batch"], Float[Tensor, "*#batch"]]:
    """Areas that corner boxes (..., 4) have in common and cover together, with broadcasting."""
    start_a, end_a = boxes_a[..., :2], boxes_a[..., 2:]
    start_b, end_b = boxes_b[..., :2], boxes_b[..., 2:]
    overlap = _area(torch.maximum(start_a, start_b), torch.minimum(end_a, end_b))
    union = (_area(start_a, end_a) + _area(start_b, end_b) - overlap).clamp(min=_SMALLEST_AREA)
    return overlap, union


def _area(
    top_left: Float[Tensor, "*batch 2"], bottom_right: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch"]:
    return (bottom_right - top_left).clamp(min=0).prod(-1)
