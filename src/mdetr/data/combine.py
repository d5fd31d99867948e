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
from mdetr.processing.coordinates import Span, Spans

MIN_OVERLAP = 0.5  # of two boxes that may be the same thing
SOURCE = "combined"


def combine_records(
    records: Sequence[Record], max_length: int = MAX_LENGTH, exact: bool = False
) -> list[Record]:
    """Put the captions of one image together in as few as can be.

    Two captions conflict if a box of one overlaps a box of the other by more than half: they may refer to one
    thing in different words, and one query cannot say both. The captions are colored greedily, those with
    most conflicts first, and those of one color become one caption.

    Args:
        records: of one image. max_length: characters of a combined caption.
        exact: count lengths as the published data were made, without the dots and spaces that are added, so
            that a few captions are longer than `max_length`.

    Returns:
        Combined records, which cover every text and box of the given ones. A single caption longer than
        `max_length` stays by itself. `extra` lists the members: their source, split and id.

    Source: arXiv 2104.12763, appendix B ("data combination").
    """
    if not records:
        return []
    conflicts = conflict_matrix(records)
    colors = _color(conflicts, [_length(record.text, exact) for record in records], max_length, exact)
    return [_join([records[place] for place in members]) for members in colors]


def conflict_matrix(records: Sequence[Record]) -> npt.NDArray[np.bool_]:
    """(n, n), true where any two boxes of two records overlap by more than half; false on the diagonal."""
    owners = np.repeat(np.arange(len(records)), [len(record.boxes) for record in records])
    boxes = np.array([box for record in records for box in record.boxes], dtype=np.float64).reshape(-1, 4)
    conflicts = np.zeros((len(records), len(records)), dtype=bool)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clip(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    first, second = np.nonzero(shared > MIN_OVERLAP * (area[:, None] + area[None] - shared))
    conflicts[owners[first], owners[second]] = True
    np.fill_diagonal(conflicts, False)
    return conflicts


def _color(
    conflicts: npt.NDArray[np.bool_], lengths: Sequence[int], max_length: int, exact: bool
) -> list[list[int]]:
    """The members of each color, in the order in which they were colored."""
    degrees = conflicts.sum(1)
    order = sorted(range(len(lengths)), key=lambda place: (degrees[place], place), reverse=True)
    gap = 2 if exact else 1  # exact: room for ". "; else what really stands between two
    members: list[list[int]] = []
    used: list[int] = []
    for place in order:
        for color, others in enumerate(members):
            fits = used[color] + lengths[place] + gap <= max_length
            if fits and not conflicts[place, others].any():
                others.append(place)
                used[color] += lengths[place] + (0 if exact else gap)
                break
        else:
            members.append([place])
            used.append(lengths[place])
    return members


def _length(text: str, exact: bool) -> int:
    return len(text) if exact else len(_sentence(text))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else text + "."


def _join(records: Sequence[Record]) -> Record:
    starts, text = [], ""
    for record in records:
        text += " " if text else ""
        starts.append(len(text))
        text += _sentence(record.text)

    def move(spans: Spans, start: int) -> Spans:
        moved: list[Span] = [(begin + start, end + start) for begin, end in spans]
        return consolidate_spans(moved, text)

    first = records[0]
    return replace(
        first,
        source=SOURCE,
        id=f"{first.image_id}-{first.source}-{first.id}",
        text=text,
        boxes=tuple(box for record in records for box in record.boxes),
        spans=tuple(
            move(spans, start)
            for record, start in zip(records, starts, strict=True)
            for spans in record.spans
        ),
        is_referred=None,
        masks=None,
        phrases=None,
        answer=None,
        answer_type=None,
        category_ids=None,
        extra=json.dumps({"members": [[record.source, record.split, record.id] for record in records]}),
    )
