"""Mosaics: four images of named objects in one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from mdetr.data.augmentation.geometry import pad, resize
from mdetr.data.examples import Records
from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.processing.coordinates import Box, Spans

Draw = Callable[[Generator], tuple[Tensor, Records]]
"""Draws another image, (3, H, W) uint8, with its records."""

_TILES = 4
_SEPARATOR = ". "


@dataclass(frozen=True)
class Mosaic:
    """Puts four images in the quarters of one canvas, and their records of class names in one record.

    The model thus sees four times as many objects per image, of more sizes. This step comes before
    `ComposeTexts`, which then composes texts about all four images. Images whose records do not list the
    absent classes stay as they are.

    Attributes:
        probability: Probability of a mosaic.
        draw: Draws the other three images.

    Source: arXiv 2004.10934 (mosaic), 2412.04234 (as dense supervision for one-to-one matching).
    """

    probability: float
    draw: Draw

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Make the mosaic with the size of the first image, or return it unchanged."""
        # The size does not depend on the other images, so they are not drawn if only it is needed
        if image.device.type == "meta" or torch.rand((), generator=generator) >= self.probability:
            return image, records

        named: list[tuple[Tensor, Record]] = []
        while len(named) < _TILES:
            part, records_of_part = self.draw(generator) if named else (image, records)
            record = _record_of_names(records_of_part)
            if record is None:
                return image, records
            named.append((part, record))
        return _put_together(named)


def _record_of_names(records: Records) -> Record | None:
    """Return the record that lists the classes of an image, present and absent, if there is one."""
    return next((record for record in records if protocol_fields(record).absent is not None), None)


def _put_together(parts: Sequence[tuple[Tensor, Record]]) -> tuple[Tensor, Records]:
    """Put images with one record each in the quarters of a canvas of the first image's size."""
    height, width = parts[0][0].shape[-2:]
    canvas = torch.empty_like(parts[0][0])
    middle_y, middle_x = height // 2, width // 2
    rows, columns = ((0, middle_y), (middle_y, height)), ((0, middle_x), (middle_x, width))
    quarters = [(row, column) for row in rows for column in columns]

    # Fit each image into its quarter
    moved: list[Record] = []
    for (part, record), ((top, bottom), (left, right)) in zip(parts, quarters, strict=True):
        scale = min((bottom - top) / part.shape[-2], (right - left) / part.shape[-1])
        size = max(1, round(part.shape[-2] * scale)), max(1, round(part.shape[-1] * scale))
        start = top + (bottom - top - size[0]) // 2, left + (right - left - size[1]) // 2
        padded, (placed,) = pad(*resize(part, (record,), size), (*start, height, width))
        canvas[:, top:bottom, left:right] = padded[:, top:bottom, left:right]
        moved.append(placed)
    return canvas, (_join(moved),)


def _join(records: Sequence[Record]) -> Record:
    """Join records of class names: all boxes, and the classes that no image shows."""
    # Shift the spans to their place in the joined text
    text = ""
    boxes: list[Box] = []
    spans: list[Spans] = []
    for record in records:
        text += _SEPARATOR if text else ""
        boxes += record.boxes
        for spans_of_box in record.spans:
            spans.append(tuple((start + len(text), end + len(text)) for start, end in spans_of_box))
        text += record.text

    absent = [set(protocol_fields(record).absent or ()) for record in records]
    return replace(
        records[0],
        text=text,
        boxes=tuple(boxes),
        spans=tuple(spans),
        is_referred=None,
        masks=None,
        phrases=None,
        category_ids=None,
        extra=json.dumps({"absent": sorted(set.intersection(*absent))}),
    )
