"""Scenes: the objects of an image with classes, boxes and colors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdetr.data.class_names import GARMENTS
from mdetr.data.colors import color_of
from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.processing.coordinates import Box, Span

# Classes that have one clear color, and the furry ones among them with the colors of fur
COLORED = (GARMENTS - {"hair", "accessories", "bracelet", "necklace", "watch", "ring", "belt"}) | {
    *("car", "truck", "bus", "train", "motorcycle", "boat", "dog", "cat", "horse", "cow", "bird", "couch"),
    *("chair", "umbrella", "cup", "vase", "backpack", "handbag", "suitcase", "apple", "bed", "sports ball"),
}
FUR = frozenset(("black", "white", "gray", "brown"))
FURRY = frozenset(("dog", "cat", "horse", "cow"))


@dataclass(frozen=True)
class Thing:
    """Object in an image.

    Attributes:
        name: Name of its class.
        box: x0, y0, x1, y1 in pixels.
        color: One of `COLORS`; None if it has no clear color.
    """

    name: str
    box: Box
    color: str | None = None

    @property
    def center(self) -> tuple[float, float]:
        """Center x, y in pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self) -> float:
        """Area in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Mention:
    """Words that refer to objects of an image, or to something absent.

    Attributes:
        text: The words.
        things: Indices of the objects; empty if absent.
        root: Span of `text` that the boxes belong to; all of it if None.
        others: Further spans of `text` with the indices of the objects that they mention.
    """

    text: str
    things: tuple[int, ...]
    root: Span | None = None
    others: tuple[tuple[Span, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Scene:
    """Description of an image.

    Attributes:
        things: Objects with a box.
        absent: Names of the classes that are not in the image.
        width: Width in pixels.
        height: Height in pixels.
    """

    things: tuple[Thing, ...]
    absent: tuple[str, ...]
    width: int
    height: int

    def by_name(self) -> dict[str, tuple[int, ...]]:
        """Group the objects by class: name -> indices."""
        groups: dict[str, tuple[int, ...]] = {}
        for index, thing in enumerate(self.things):
            groups[thing.name] = (*groups.get(thing.name, ()), index)
        return groups


def scene_of(record: Record, image: Tensor) -> Scene:
    """Describe an image (3, H, W) by a record of class names and by the colors of the objects."""
    things = []
    for box, spans in zip(record.boxes, record.spans, strict=True):
        name = record.text[spans[0][0] : spans[0][1]]
        color = color_of(image, box) if name in COLORED else None
        if name in FURRY and color not in FUR:
            color = None
        things.append(Thing(name, box, color))
    return Scene(tuple(things), protocol_fields(record).absent or (), record.width, record.height)
