"""Geometric changes of an image together with its records: boxes, masks, spans and phrases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from mdetr.data.examples import Records
from mdetr.data.record import Phrase, Record
from mdetr.data.side_words import Language, Swap, mirror_words
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box, Size, Spans
from mdetr.processing.rle import decode_masks, encode_masks

_T = TypeVar("_T")

Region = tuple[int, int, int, int]
"""top, left, height, width in pixels."""


def resize(image: Tensor, records: Records, size: Size) -> tuple[Tensor, Records]:
    """Resize an image (bilinear, antialiased) and its records to (height, width)."""
    old_height, old_width = image.shape[-2:]
    if (old_height, old_width) == size:
        return image, records
    height, width = size
    x_scale, y_scale = width / old_width, height / old_height
    if image.is_meta:  # only the shape is needed, and torch takes longer to derive it
        resized = image.new_empty((len(image), height, width))
    else:
        resized = tv.resize(image, [height, width], tv.InterpolationMode.BILINEAR, antialias=True)

    # Scale the boxes, whose rounding errors must not exceed the image
    moved: list[Record] = []
    for record in records:
        boxes: list[Box] = []
        for x0, y0, x1, y1 in record.boxes:
            right, bottom = min(x1 * x_scale, float(width)), min(y1 * y_scale, float(height))
            boxes.append((x0 * x_scale, y0 * y_scale, right, bottom))
        masks = move_masks(
            record, lambda all_masks: tv.resize(all_masks, [height, width], tv.InterpolationMode.NEAREST)
        )
        moved.append(replace(record, boxes=tuple(boxes), masks=masks, height=height, width=width))
    return resized, tuple(moved)


def crop(image: Tensor, records: Records, region: Region) -> tuple[Tensor, Records]:
    """Crop an image and its records to a region; boxes outside are dropped with their spans and masks."""
    top, left, height, width = region
    cropped: list[Record] = []
    for record in records:
        # Clip the boxes, and keep those that are not empty
        boxes: list[Box] = []
        kept: list[int] = []
        for index, (x0, y0, x1, y1) in enumerate(record.boxes):
            x0, y0 = max(x0 - left, 0.0), max(y0 - top, 0.0)
            x1, y1 = min(x1 - left, float(width)), min(y1 - top, float(height))
            boxes.append((x0, y0, x1, y1))
            if x0 < x1 and y0 < y1:
                kept.append(index)

        masks = move_masks(record, lambda all_masks: tv.crop(all_masks, top, left, height, width))
        record = replace(record, boxes=tuple(boxes), masks=masks, height=height, width=width)
        cropped.append(record if len(kept) == len(boxes) else keep_boxes(record, kept))
    return tv.crop(image, top, left, height, width), tuple(cropped)


def pad(image: Tensor, records: Records, region: Region) -> tuple[Tensor, Records]:
    """Put an image on a canvas of its mean color.

    Args:
        image: (3, H, W) uint8.
        records: Records of the image.
        region: Position of the image (top, left) and size of the canvas (height, width), in pixels.

    Returns:
        The canvas, (3, height, width) uint8, and the records with their boxes and masks moved.
    """
    top, left, height, width = region
    old_height, old_width = image.shape[-2:]

    # Draw the canvas; on the meta device, there is no color to compute
    if image.device.type == "meta":
        canvas = image.new_empty((3, height, width))
    else:
        mean = image.float().mean(dim=(1, 2)).to(image.dtype)
        canvas = mean[:, None, None].repeat(1, height, width)
        canvas[:, top : top + old_height, left : left + old_width] = image

    # Move the records
    margins = [left, top, width - old_width - left, height - old_height - top]
    padded: list[Record] = []
    for record in records:
        boxes = tuple((x0 + left, y0 + top, x1 + left, y1 + top) for x0, y0, x1, y1 in record.boxes)
        masks = move_masks(record, lambda all_masks: tv.pad(all_masks, margins))
        padded.append(replace(record, boxes=boxes, masks=masks, height=height, width=width))
    return canvas, tuple(padded)


def mirror(image: Tensor, records: Records) -> tuple[Tensor, Records]:
    """Mirror an image, and the boxes and masks of its records; texts are left to `swap_sides`."""
    mirrored: list[Record] = []
    for record in records:
        width = record.width
        boxes = tuple((width - x1, y0, width - x0, y1) for x0, y0, x1, y1 in record.boxes)
        mirrored.append(replace(record, boxes=boxes, masks=move_masks(record, tv.horizontal_flip)))
    return tv.horizontal_flip(image), tuple(mirrored)


def keep_boxes(record: Record, kept: list[int]) -> Record:
    """Keep some boxes of a record with their spans and masks, and drop phrases that lose all their boxes."""
    # Map the box indices of the phrases; a phrase that never had boxes stays
    new_index = {old: new for new, old in enumerate(kept)}
    phrases: tuple[Phrase, ...] | None = None
    if record.phrases is not None:
        remaining: list[Phrase] = []
        for phrase in record.phrases:
            indices = tuple(new_index[index] for index in phrase.box_indices if index in new_index)
            if indices or not phrase.box_indices:
                remaining.append(Phrase(phrase.spans, indices))
        phrases = tuple(remaining)

    return replace(
        record,
        boxes=tuple(record.boxes[index] for index in kept),
        spans=tuple(record.spans[index] for index in kept),
        is_referred=_choose(record.is_referred, kept),
        masks=_choose(record.masks, kept),
        category_ids=_choose(record.category_ids, kept),
        phrases=phrases,
    )


def filter_boxes(records: Records, is_kept: list[bool]) -> Records:
    """Keep some boxes of the records.

    Args:
        records: Records with N boxes in total.
        is_kept: Whether to keep each of the N boxes, in the order of the records.

    Returns:
        The records with the kept boxes.
    """
    filtered: list[Record] = []
    start = 0
    for record in records:
        flags = is_kept[start : start + len(record.boxes)]
        start += len(flags)
        kept = [index for index, flag in enumerate(flags) if flag]
        filtered.append(record if all(flags) else keep_boxes(record, kept))
    return tuple(filtered)


def _choose(values: tuple[_T, ...] | None, kept: list[int]) -> tuple[_T, ...] | None:
    return None if values is None else tuple(values[index] for index in kept)


def swap_sides(record: Record, languages: Sequence[Language]) -> Record | None:
    """Swap left and right in the text and answer of a record, and move its spans with their words.

    Args:
        record: Record of any data set.
        languages: Languages whose words may be swapped.

    Returns:
        The changed record; None if it has a word for a side that cannot be swapped.
    """
    swaps = mirror_words(record.text, languages)
    answer_swaps = mirror_words(record.answer or "", languages)
    if swaps is None or answer_swaps is None:
        return None
    if not swaps and not answer_swaps:
        return record

    # Move the spans of boxes and phrases
    def move(spans: Spans) -> Spans:
        return tuple((_moved(start, swaps), _moved(end, swaps, is_end=True)) for start, end in spans)

    spans = tuple(move(spans_of_box) for spans_of_box in record.spans)
    phrases = record.phrases
    if phrases is not None:
        phrases = tuple(Phrase(move(phrase.spans), phrase.box_indices) for phrase in phrases)

    # Replace the words
    text = _replace_words(record.text, swaps)
    answer = None if record.answer is None else _replace_words(record.answer, answer_swaps)
    return replace(record, text=text, answer=answer, spans=spans, phrases=phrases)


def _replace_words(text: str, swaps: Sequence[Swap]) -> str:
    """Apply the swaps from last to first, since each moves the characters behind it."""
    for swap in reversed(swaps):
        text = text[: swap.start] + swap.text + text[swap.end :]
    return text


def _moved(character: int, swaps: Sequence[Swap], is_end: bool = False) -> int:
    """Move the start or end of a span; inside a swapped word, to the start or end of that word."""
    shift = 0
    for swap in swaps:
        growth = len(swap.text) - (swap.end - swap.start)
        if character >= swap.end:
            shift += growth
        elif character > swap.start:
            return swap.end + shift + growth if is_end else swap.start + shift
    return character + shift


def move_masks(record: Record, move: Callable[[Tensor], Tensor]) -> tuple[bytes, ...] | None:
    """Apply a geometric change to the masks of a record.

    Args:
        record: Record with n masks of height H and width W, or without masks.
        move: Change of the masks, (n, H, W) uint8 -> (n, h, w) uint8.

    Returns:
        The encoded masks after the change; None if the record has none.

    Raises:
        InvalidRecordError: A mask is damaged or of another size than its image, which importers reject.
    """
    if not record.masks:
        return record.masks
    try:
        masks = torch.from_numpy(decode_masks(record.masks, record.height, record.width))
    except InvalidInputError as error:
        raise InvalidRecordError(
            f"Record {record.id!r} of source {record.source!r}: {error}; import the data again."
        ) from None
    return encode_masks(move(masks).numpy())
