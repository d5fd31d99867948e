"""The boxes of each class of an image in; those of all classes, without repetitions, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mdetr.post_processing import Box


@dataclass(frozen=True)
class Detection:
    """A thing of a named class. box: x0, y0, x1, y1 in pixels of the image. score: 1 - p(no object)."""

    name: str
    box: Box
    score: float


def merge_classes(
    names: Sequence[str],
    found: Sequence[tuple[Tensor, Tensor]],
    size: tuple[int, int],
    threshold: float,
    max_overlap: float,
) -> tuple[Detection, ...]:
    """Put the boxes of all classes of an image together, best first.

    Args:
        names: N class names.
        found: per name, the boxes (Q, 4) x0, y0, x1, y1 in pixels and the scores (Q,) of its prompt.
        size: (height, width) of the image.
        threshold: boxes with a score above this are kept.
        max_overlap: a box goes if its intersection over union with a better one of its class is above this.
    """
    boxes = torch.cat([part for part, _ in found]).float()
    scores = torch.cat([part for _, part in found]).float()
    classes = torch.repeat_interleave(
        torch.arange(len(found), device=boxes.device),
        torch.tensor([len(part) for part, _ in found], device=boxes.device),
    )
    certain = scores > threshold
    boxes, scores, classes = boxes[certain], scores[certain], classes[certain]
    height, width = size
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    kept = batched_nms(boxes, scores, classes, max_overlap)
    return tuple(
        Detection(names[place], (x0, y0, x1, y1), score)
        for place, (x0, y0, x1, y1), score in zip(
            classes[kept].tolist(), boxes[kept].tolist(), scores[kept].tolist(), strict=True
        )
    )
