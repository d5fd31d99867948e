"""Merging of equal boxes of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import box_iou

from mdetr.processing.coordinates import Box, Span

SAME_BOX = 0.95  # IoU from which two boxes of a text are one


def merge_same_boxes(
    boxes: Sequence[Box], spans: Sequence[Sequence[Span]]
) -> tuple[list[Box], list[list[Span]]]:
    """Merge boxes that agree, transitively, into the last of them, with the spans of all.

    Args:
        boxes: Boxes of a text.
        spans: The spans of each box.

    Returns:
        The merged boxes, and the spans of each.
    """
    if not boxes:
        return [], []
    corners = torch.tensor(boxes, dtype=torch.float64)
    same = box_iou(corners, corners) >= SAME_BOX
    group = torch.arange(len(boxes))
    for first, second in same.nonzero().tolist():
        group[group == group[second]] = int(group[first])
    merged_boxes: dict[int, Box] = {}
    merged_spans: dict[int, list[Span]] = {}
    for box, box_spans, number in zip(boxes, spans, group.tolist(), strict=True):
        merged_boxes[number] = box
        merged_spans.setdefault(number, []).extend(box_spans)
    return list(merged_boxes.values()), list(merged_spans.values())
