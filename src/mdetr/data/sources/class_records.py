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
    """A record for each class: its text asks for the class (`class_prompt`), and all boxes belong to it.

    Args:
        base: The image; its id is continued with the name of each class.
        boxes: All that the image shows.

    Raises:
        InvalidInputError: The name of a class has no words.
    """
    records = []
    for name in dict.fromkeys(box.name for box in boxes):
        text = class_prompt(name)
        if not text.strip():
            raise InvalidInputError(f"the name of its class {name!r} has no words")
        own = [box for box in boxes if box.name == name]
        categories = tuple(box.category for box in own if box.category is not None)
        records.append(
            replace(
                base,
                id=f"{base.id}-{name}",
                text=text,
                boxes=tuple(box.box for box in own),
                spans=tuple(((0, len(text)),) for _ in own),
                category_ids=categories or None,
            )
        )
    return records


def cut_box(box: Box, width: int, height: int, slack: float) -> Box:
    """A box, cut at the border of its image of width x height pixels.

    Args:
        box: x0, y0, x1, y1 in pixels.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        slack: The most pixels by which it may leave the image, as rounding makes boxes do.

    Raises:
        InvalidInputError: It leaves the image by more, or is empty.
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
