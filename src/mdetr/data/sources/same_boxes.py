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
    """Boxes that agree, transitively, become the last of them, with the spans of all."""
    if not boxes:
        return [], []
    corners = torch.tensor(boxes, dtype=torch.float64)
    same = box_iou(corners, corners) >= SAME_BOX
    group = torch.arange(len(boxes))
    for first, second in same.nonzero().tolist():
        group[group == group[second]] = int(group[first])
    merged: dict[int, tuple[Box, list[Span]]] = {}
    for box, of_box, number in zip(boxes, spans, group.tolist(), strict=True):
        _, before = merged.get(number, (box, []))
        merged[number] = box, [*before, *of_box]
    return [box for box, _ in merged.values()], [list(own) for _, own in merged.values()]
