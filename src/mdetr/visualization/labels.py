"""Placement of box labels: within the picture, next to their boxes, without overlap."""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]
LabelSize = tuple[float, float]  # width, height


def place_labels(
    boxes: Sequence[Rectangle], sizes: Sequence[Sequence[LabelSize]], canvas: LabelSize
) -> list[tuple[int, Rectangle] | None]:
    """Choose the position of each box's label; earlier boxes have priority.

    A label touches its box: above its upper edge if possible, otherwise below that edge, below the box, or
    inside at its lower edge; aligned to its left or right side. If the longest wording does not fit, shorter
    ones are tried.

    Args:
        boxes: x0, y0, x1, y1 in pixels of the canvas; they may extend beyond it.
        sizes: For each box, the size of every wording of its label, from the longest to the shortest.
        canvas: Size of the picture.

    Returns:
        For each box, the index of the wording and its rectangle; None if no wording fits next to the labels
        placed before.
    """
    occupied: list[Rectangle] = []
    placements: list[tuple[int, Rectangle] | None] = []
    for box, wordings in zip(boxes, sizes, strict=True):
        placement = _first_free(box, wordings, canvas, occupied)
        if placement is not None:
            occupied.append(placement[1])
        placements.append(placement)
    return placements


def _first_free(
    box: Rectangle, wordings: Sequence[LabelSize], canvas: LabelSize, occupied: Sequence[Rectangle]
) -> tuple[int, Rectangle] | None:
    for number, (width, height) in enumerate(wordings):
        for x, y in _corners(box, width, height, canvas):
            rectangle = (x, y, x + width, y + height)
            inside = x >= 0 and y >= 0 and x + width <= canvas[0] and y + height <= canvas[1]
            if inside and not any(_overlap(rectangle, other) for other in occupied):
                return number, rectangle
    return None


def _corners(box: Rectangle, width: float, height: float, canvas: LabelSize) -> list[tuple[float, float]]:
    """List the possible upper left corners of a label, best first."""
    # Labels that extend beyond a side of the picture are moved back into it
    columns = [min(max(x, 0.0), canvas[0] - width) for x in (box[0], box[2] - width)]
    rows = [box[1] - height, box[1], box[3], box[3] - height]
    return [(x, y) for y in rows for x in dict.fromkeys(columns)]


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
