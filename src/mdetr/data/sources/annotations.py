"""Validation of COCO annotations: box, mask and area."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mdetr.data.record import as_stored
from mdetr.data.sources.converting import LeftOut
from mdetr.data.sources.fields import Fields, inside, to_finite, to_list
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box
from mdetr.processing.rle import encode_segmentation, mask_area

CROWDS = "boxes of crowds"
NO_AREA = "boxes without area in their image"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation of an image.

    Attributes:
        fields: Its fields in the file.
        box: x0, y0, x1, y1 in pixels, clipped to the image.
        mask: COCO compressed RLE counts; None without a mask.
        area: In square pixels; that of the mask or the box if the file has none.
    """

    fields: Fields
    box: Box
    mask: bytes | None
    area: float


def read_annotations(
    entries: Iterable[Any], width: int, height: int
) -> tuple[list[Annotation], list[Annotation], list[LeftOut]]:
    """Read the annotations of one image.

    Args:
        entries: Annotations of the image.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.

    Returns:
        Annotations of single objects, annotations of crowds (without masks), and what was left out: boxes
        without area in the image.

    Raises:
        InvalidInputError: An annotation breaks a rule; it is named by its id.
    """
    things: list[Annotation] = []
    crowds: list[Annotation] = []
    empty = 0
    for entry in entries:
        with inside(name_of(entry)):
            fields = Fields(entry)
            is_crowd = fields.flag("iscrowd")
            box = clamp_box(fields.value("bbox"), width, height)
            if box is None:
                empty += 1
                continue
            mask = (
                None if is_crowd else encode_segmentation(fields.value("segmentation", None), height, width)
            )
            annotation = Annotation(fields, box, mask, _area(fields, box, mask, width, height))
            (crowds if is_crowd else things).append(annotation)
    return things, crowds, [LeftOut(NO_AREA, empty)]


def masks_of(annotations: Sequence[Annotation]) -> tuple[bytes, ...] | None:
    """Return the masks of annotations.

    Args:
        annotations: Annotations of one image.

    Returns:
        One mask for each annotation; None unless all have one.
    """
    masks = tuple(annotation.mask for annotation in annotations if annotation.mask is not None)
    return masks if masks and len(masks) == len(annotations) else None


def clamp_box(bbox: Sequence[float], width: int, height: int) -> Box | None:
    """Convert a box of COCO, and clip it to the image.

    Args:
        bbox: x, y, width, height, in pixels.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.

    Returns:
        x0, y0, x1, y1 in pixels; None if no area is left.

    Raises:
        InvalidInputError: These are not four finite numbers.
    """
    values = [to_finite(value, "box") for value in to_list(bbox, "box")]
    if len(values) != 4:
        raise InvalidInputError(f"its box must be four numbers x, y, width, height, got {len(values)}")
    x, y, w, h = values
    x0, y0 = min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))
    x1, y1 = min(max(x + w, 0.0), float(width)), min(max(y + h, 0.0), float(height))
    left, top, right, bottom = as_stored((x0, y0, x1, y1))
    return (x0, y0, x1, y1) if left < right and top < bottom else None


def name_of(entry: Any) -> str:
    """Name an annotation for messages, by its id if it has one.

    Args:
        entry: The annotation as parsed.

    Returns:
        Such as "annotation 7".
    """
    number = entry.get("id") if isinstance(entry, dict) else None
    return "an annotation" if number is None else f"annotation {number!r:.40}"


def _area(fields: Fields, box: Box, mask: bytes | None, width: int, height: int) -> float:
    """Return the area in the file, else that of the mask, else that of the box."""
    value = fields.value("area", None)
    area = 0.0 if value is None else to_finite(value, '"area"')
    if area < 0:
        raise InvalidInputError(f'its "area" must not be negative, got {area:g}')
    if area == 0 and mask is not None:
        area = float(mask_area(mask, height, width))
    return area or (box[2] - box[0]) * (box[3] - box[1])
