"""Combination of the captions of one image into fewer, longer texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mdetr.data.limits import MAX_LENGTH
from mdetr.data.record import Record
from mdetr.data.spans import consolidate_spans
from mdetr.processing.coordinates import Box, Span, Spans

MIN_OVERLAP = 0.5  # IoU above which two boxes may show the same object
SOURCE = "combined"
_PAIRS = 1 << 20  # of boxes that are compared at once


def combine_records(
    records: Sequence[Record], max_length: int = MAX_LENGTH, exact: bool = False
) -> list[Record]:
    """Combine the captions of one image into as few records as possible.

    Two captions conflict if a box of one overlaps a box of the other with an IoU over 0.5: they may describe
    one object in different words, and one query can predict only one span. The captions are colored
    greedily, those with the most conflicts first, and the captions of one color are joined.

    Args:
        records: Records of one image.
        max_length: Maximum number of characters of a combined caption.
        exact: Whether to count lengths as for the released data, without the periods and spaces that are
            added, which makes a few captions longer than `max_length`.

    Returns:
        Combined records with every text and box of `records`. A single caption longer than `max_length`
        stays a record by itself. `extra` lists the source, split and id of the members.

    Source: arXiv 2104.12763, appendix B ("data combination").
    """
    if not records:
        return []
    lengths = [_length(record.text, exact) for record in records]
    combined = []
    for members in _color(conflict_matrix(records), lengths, max_length, exact):
        combined.append(_join([records[member] for member in members]))
    return combined


def conflict_matrix(records: Sequence[Record]) -> npt.NDArray[np.bool_]:
    """Compute which records conflict: (n, n), true where boxes of two records overlap by more than half."""
    # Collect all boxes with the record of each
    owners = np.repeat(np.arange(len(records)), [len(record.boxes) for record in records])
    all_boxes: list[Box] = []
    for record in records:
        all_boxes.extend(record.boxes)
    boxes = np.array(all_boxes, dtype=np.float64).reshape(-1, 4)

    # Compare the IoU of every two boxes, without a division by the area of empty boxes; some boxes with all
    # at once, because the memory for all pairs grows with the square of their number
    conflicts = np.zeros((len(records), len(records)), dtype=bool)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    rows = max(1, _PAIRS // max(1, len(boxes)))
    for start in range(0, len(boxes), rows):
        some = boxes[start : start + rows, None]
        low = np.maximum(some[..., :2], boxes[None, :, :2])
        high = np.minimum(some[..., 2:], boxes[None, :, 2:])
        intersection = (high - low).clip(min=0).prod(-1)
        union = area[start : start + rows, None] + area[None] - intersection
        first, second = np.nonzero(intersection > MIN_OVERLAP * union)
        conflicts[owners[start + first], owners[second]] = True
    np.fill_diagonal(conflicts, False)
    return conflicts


def _color(
    conflicts: npt.NDArray[np.bool_], lengths: Sequence[int], max_length: int, exact: bool
) -> list[list[int]]:
    """Color the records greedily, and list the members of each color in the order of coloring."""
    degrees = conflicts.sum(1)
    order = sorted(range(len(lengths)), key=lambda index: (degrees[index], index), reverse=True)
    gap = 2 if exact else 1  # exact reserves room for ". "; otherwise one space separates two captions
    members: list[list[int]] = []
    used: list[int] = []
    for index in order:
        # Use the first color that has room and no conflict
        for color, others in enumerate(members):
            fits = used[color] + lengths[index] + gap <= max_length
            if fits and not conflicts[index, others].any():
                others.append(index)
                used[color] += lengths[index] + (0 if exact else gap)
                break
        else:
            members.append([index])
            used.append(lengths[index])
    return members


def _length(text: str, exact: bool) -> int:
    return len(text) if exact else len(_sentence(text))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else text + "."


def _join(records: Sequence[Record]) -> Record:
    """Join records into one, with their boxes and with their spans moved to the joined text."""
    # Join the texts
    starts: list[int] = []
    text = ""
    for record in records:
        text += " " if text else ""
        starts.append(len(text))
        text += _sentence(record.text)

    # Move the spans behind the texts before theirs
    boxes: list[Box] = []
    all_spans: list[Spans] = []
    for record, start in zip(records, starts, strict=True):
        boxes.extend(record.boxes)
        for spans in record.spans:
            moved: list[Span] = [(begin + start, end + start) for begin, end in spans]
            all_spans.append(consolidate_spans(moved, text))

    first = records[0]
    return replace(
        first,
        source=SOURCE,
        id=f"{first.image_id}-{first.source}-{first.id}",
        text=text,
        boxes=tuple(boxes),
        spans=tuple(all_spans),
        is_referred=None,
        masks=None,
        phrases=None,
        answer=None,
        answer_type=None,
        category_ids=None,
        extra=json.dumps({"members": [[record.source, record.split, record.id] for record in records]}),
    )
