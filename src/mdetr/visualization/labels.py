"""Layout of box labels: inside the picture, beside their boxes, without overlap."""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]
Size = tuple[float, float]


def place_labels(
    boxes: Sequence[Rectangle], sizes: Sequence[Sequence[Size]], canvas: Size
) -> list[tuple[int, Rectangle] | None]:
    """Choose where each box's label goes, the first box first.

    A label touches its own box: it stands on its upper edge where it can, or else below that edge, under the
    box or at the box's lower end, at its left or its right side. Where the longest wording has no room, a
    shorter one is tried.

    Args:
        boxes: x0, y0, x1, y1 in pixels of the canvas; they may leave it.
        sizes: For each box the width and height of every wording of its label, from the longest to the
            shortest.
        canvas: Width and height of the picture.

    Returns:
        For each box the wording's index and its rectangle, of that wording's size; None where no wording fits
        beside the labels that were placed before.
    """
    taken: list[Rectangle] = []
    placed: list[tuple[int, Rectangle] | None] = []
    for box, wordings in zip(boxes, sizes, strict=True):
        found = _first_free(box, wordings, canvas, taken)
        if found is not None:
            taken.append(found[1])
        placed.append(found)
    return placed


def _first_free(
    box: Rectangle, wordings: Sequence[Size], canvas: Size, taken: Sequence[Rectangle]
) -> tuple[int, Rectangle] | None:
    for number, (width, height) in enumerate(wordings):
        for x, y in _corners(box, width, height, canvas):
            rectangle = (x, y, x + width, y + height)
            inside = x >= 0 and y >= 0 and x + width <= canvas[0] and y + height <= canvas[1]
            if inside and not any(_overlap(rectangle, other) for other in taken):
                return number, rectangle
    return None


def _corners(box: Rectangle, width: float, height: float, canvas: Size) -> list[tuple[float, float]]:
    """The upper left corners that a label of a size may have, the best first."""
    # What leaves the picture at a side is moved back into it, as long as it still touches the box.
    columns = [min(max(x, 0.0), canvas[0] - width) for x in (box[0], box[2] - width)]
    rows = [box[1] - height, box[1], box[3], box[3] - height]
    return [(x, y) for y in rows for x in dict.fromkeys(columns)]


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
