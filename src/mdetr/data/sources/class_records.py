"""Records of detection data: one for each class of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mdetr.data.prompts import class_prompt
from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box


@dataclass(frozen=True, slots=True)
class ClassBox:
    """A box of an image: the name of its class, x0, y0, x1, y1 in pixels, and the class's number if any."""

    name: str
    box: Box
    category: int | None = None


def class_records(base: Record, boxes: Sequence[ClassBox]) -> list[Record]:
    """Make one record for each class, whose text is its prompt (`class_prompt`) with all its boxes.

    Args:
        base: Record of the image; the name of the class is appended to its id.
        boxes: All boxes of the image.

    Returns:
        The records, in the order of the boxes.

    Raises:
        InvalidInputError: The name of a class has no words.
    """
    # Group the boxes by the name of their class
    boxes_by_name: dict[str, list[ClassBox]] = {}
    for box in boxes:
        boxes_by_name.setdefault(box.name, []).append(box)

    # Make one record for each class
    records = []
    for name, class_boxes in boxes_by_name.items():
        text = class_prompt(name)
        if not text.strip():
            raise InvalidInputError(f"the name of its class {name!r} has no words")
        categories = tuple(box.category for box in class_boxes if box.category is not None)
        records.append(
            replace(
                base,
                id=f"{base.id}-{name}",
                text=text,
                boxes=tuple(box.box for box in class_boxes),
                spans=(((0, len(text)),),) * len(class_boxes),
                category_ids=categories or None,
            )
        )
    return records


def cut_box(box: Box, width: int, height: int, slack: float) -> Box:
    """Clip a box to its image.

    Args:
        box: x0, y0, x1, y1 in pixels.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        slack: Maximum number of pixels outside the image, which rounding may cause.

    Returns:
        The box within the image.

    Raises:
        InvalidInputError: The box extends further beyond the image, or is empty.
    """
    x0, y0, x1, y1 = box
    place = f"({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if min(x0, y0, width - x1, height - y1) < -slack:
        raise InvalidInputError(
            f"its box {place} leaves the image of {width} x {height} pixels; it may belong to another "
            "version of the image"
        )
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if not (cut[0] < cut[2] and cut[1] < cut[3]):
        raise InvalidInputError(
            f"its box {place} is empty, or outside the image of {width} x {height} pixels"
        )
    return cut
