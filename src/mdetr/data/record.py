"""Record: one text about one image, with the boxes of the objects it mentions; and the schema of stores."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mdetr.errors import InvalidRecordError
from mdetr.processing.coordinates import Box, Spans


@dataclass(frozen=True, slots=True)
class Phrase:
    """Phrase to evaluate.

    Attributes:
        spans: Characters of the text, (start, end) with end exclusive.
        box_indices: Indices of its boxes in `Record.boxes`.
    """

    spans: Spans
    box_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a store.

    Attributes:
        source: Data set.
        split: Split of the data set.
        id: Id, unique within source and split.
        image: Path relative to the store's image root, or the encoded image.
        image_id: Id of the image, the same for all texts of one image.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        text: Caption, expression, question or class prompt.
        boxes: x0, y0, x1, y1 in pixels.
        spans: Per box, characters of `text`, (start, end) with end exclusive.
        is_referred: Per box, whether the text as a whole refers to it; None if unknown.
        masks: Per box, COCO compressed RLE counts.
        phrases: Phrases to evaluate, if they differ from `spans`.
        answer: Answer to a question.
        answer_type: One of `ANSWER_TYPES`.
        category_ids: Per box, the id of its class.
        extra: JSON with fields for `protocol_fields` and ids of the source.
    """

    source: str
    split: str
    id: str
    image: str | bytes
    image_id: str
    width: int
    height: int
    text: str
    boxes: tuple[Box, ...] = ()
    spans: tuple[Spans, ...] = ()
    is_referred: tuple[bool, ...] | None = None
    masks: tuple[bytes, ...] | None = None
    phrases: tuple[Phrase, ...] | None = None
    answer: str | None = None
    answer_type: str | None = None
    category_ids: tuple[int, ...] | None = None
    extra: str | None = None


ANSWER_TYPES = frozenset({"obj", "attr", "rel", "global", "cat", "binary", "reg"})
_INT32_LIMIT = 2**31

_SPANS = pa.list_(pa.list_(pa.int32(), 2))
_PHRASE = pa.struct([("spans", _SPANS), ("box_indices", pa.list_(pa.int32()))])
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("image_bytes", pa.binary()),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("spans", pa.list_(_SPANS), nullable=False),
        pa.field("is_referred", pa.list_(pa.bool_())),
        pa.field("masks", pa.list_(pa.binary())),
        pa.field("phrases", pa.list_(_PHRASE)),
        pa.field("answer", pa.string()),
        pa.field("answer_type", pa.string()),
        pa.field("category_ids", pa.list_(pa.int32())),
        pa.field("extra", pa.string()),
    ]
)


def validate_record(record: Record, where: str | None = None) -> None:
    """Check a record against the rules of the schema.

    Args:
        record: Record to check.
        where: File and entry of the record, for the error message.

    Raises:
        InvalidRecordError: The record breaks a rule; the message names the entry, the rule and the value.
    """
    for part, find_problem in _RULES:
        if problem := find_problem(record):
            entry = f"{record.id!r} of source {record.source!r}, split {record.split!r}"
            start = f"{where}: r" if where else "R"
            raise InvalidRecordError(f"{start}ecord {entry} breaks a rule: {problem}.", part)


def as_stored(box: Box) -> Box:
    """Round a box to 32-bit floats as in a store, which may make a thin box empty."""
    x0, y0, x1, y1 = struct.unpack("4f", struct.pack("4f", *box))
    return x0, y0, x1, y1


def to_row(record: Record) -> dict[str, Any]:
    """Convert a record to a row of `SCHEMA`; an encoded image goes to the column `image_bytes`."""
    is_embedded = isinstance(record.image, bytes)
    row: dict[str, Any] = {name: getattr(record, name) for name in _UNCHANGED_FIELDS}
    row["image"] = None if is_embedded else record.image
    row["image_bytes"] = record.image if is_embedded else None
    row["phrases"] = None
    if record.phrases is not None:
        row["phrases"] = []
        for phrase in record.phrases:
            row["phrases"].append({"spans": phrase.spans, "box_indices": phrase.box_indices})
    return row


def from_row(row: Mapping[str, Any], where: str | None = None) -> Record:
    """Convert a row of `SCHEMA` to a record, and validate it.

    Args:
        row: Name of each column -> Python value.
        where: File and number of the row, for the error message.

    Returns:
        The record.

    Raises:
        InvalidRecordError: A value that a record needs is null, or the record breaks another rule.
    """
    try:
        record = _to_record(row)
    except (TypeError, ValueError):
        entry = f"{row['id']!r} of source {row['source']!r}, split {row['split']!r}"
        start = f"{where}: r" if where else "R"
        raise InvalidRecordError(
            f"{start}ecord {entry} breaks a rule: its boxes, spans and phrases must be lists without null."
        ) from None
    validate_record(record, where)
    return record


def _to_record(row: Mapping[str, Any]) -> Record:
    image = row["image_bytes"] if row["image"] is None else row["image"]
    boxes = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in row["boxes"])
    spans = tuple(_to_spans(spans) for spans in row["spans"])
    phrases = _optional_tuple(row["phrases"])
    if phrases is not None:
        phrases = tuple(Phrase(_to_spans(entry["spans"]), tuple(entry["box_indices"])) for entry in phrases)
    scalars: dict[str, Any] = {name: row[name] for name in _SCALAR_FIELDS}
    lists: dict[str, Any] = {name: _optional_tuple(row[name]) for name in _FLAT_LIST_FIELDS}
    return Record(image=image, boxes=boxes, spans=spans, phrases=phrases, **scalars, **lists)


_FLAT_LIST_FIELDS = ("is_referred", "masks", "category_ids")
_SCALAR_FIELDS = (
    *("source", "split", "id", "image_id", "width", "height", "text"),
    *("answer", "answer_type", "extra"),
)
_OPTIONAL_TEXT_FIELDS = ("answer", "answer_type", "extra")
_TEXT_FIELDS = ("source", "split", "id", "image", "image_id", "text", *_OPTIONAL_TEXT_FIELDS)
_LIST_KINDS = (
    ("is_referred", bool, "true or false for each box"),
    ("masks", bytes, "run lengths (bytes) for each box"),
    ("category_ids", int, "whole numbers"),
)
_UNCHANGED_FIELDS = (*_SCALAR_FIELDS, *_FLAT_LIST_FIELDS, "boxes", "spans")


def _optional_tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _to_spans(spans: Sequence[Sequence[int]]) -> Spans:
    return tuple((start, end) for start, end in spans)


def _problem_of_kinds(record: Record) -> str | None:
    """Check the types of the fields, which Python does not check."""
    for name in _TEXT_FIELDS:
        value = getattr(record, name)
        if (value is None and name in _OPTIONAL_TEXT_FIELDS) or (
            name == "image" and isinstance(value, bytes)
        ):
            continue
        if not isinstance(value, str):
            return f"its {name} must be a text, got {value!r:.40}"
        if not _is_unicode(value):
            return f"its {name} is not valid Unicode (it has half a character)"
    for name, kind, words in _LIST_KINDS:
        for value in getattr(record, name) or ():
            if type(value) is not kind:
                return f"its {name} must be {words}, got {value!r:.40}"
    if any(abs(number) >= _INT32_LIMIT for number in record.category_ids or ()):
        return "its category_ids must be below 2**31"
    if not (type(record.width) is int and type(record.height) is int):
        return f"its width and height must be whole numbers, got {record.width!r} and {record.height!r}"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _problem_of_image(record: Record) -> str | None:
    if not record.image:
        return "it names no image"
    if not (0 < record.width < _INT32_LIMIT and 0 < record.height < _INT32_LIMIT):
        return f"its image must have a positive width and height, got {record.width} x {record.height}"
    return None


def _problem_of_boxes(record: Record) -> str | None:
    for index, box in enumerate(record.boxes):
        if problem := _problem_of_box(box, record.width, record.height):
            return f"box {index} {problem}"
    per_box = {
        "spans": record.spans,
        "is_referred": record.is_referred,
        "masks": record.masks,
        "category_ids": record.category_ids,
    }
    for name, values in per_box.items():
        if values is not None and len(values) != len(record.boxes):
            return f"{name} must have one entry per box, got {len(values)} for {len(record.boxes)} boxes"
    return None


def _problem_of_box(box: Box, width: int, height: int) -> str | None:
    if len(box) != 4 or not all(isinstance(value, float | int) for value in box):
        return f"must be four numbers x0, y0, x1, y1, got {box!r:.60}"
    try:
        shown = "({:g}, {:g}, {:g}, {:g})".format(*box)
    except OverflowError:  # a whole number beyond all floating point
        return f"{box!r:.60} leaves the image of {width} x {height} pixels"
    if not all(math.isfinite(value) for value in box):
        return f"{shown} is not finite"
    x0, y0, x1, y1 = as_stored(box)
    if not (x0 < x1 and y0 < y1):
        return f"{shown} is empty (a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, also in 32 bits)"
    if not (x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height):
        return f"{shown} leaves the image of {width} x {height} pixels"
    return None


def _problem_of_text(record: Record) -> str | None:
    return None if record.text.strip() else "its text is empty"


def _problem_of_all_spans(record: Record) -> str | None:
    for index, spans in enumerate(record.spans):
        if problem := _problem_of_spans(spans, record.text):
            return f"{problem} (spans of box {index})"
    for index, phrase in enumerate(record.phrases or ()):
        if problem := _problem_of_spans(phrase.spans, record.text):
            return f"{problem} (phrase {index})"
        for box_index in phrase.box_indices:
            if type(box_index) is not int or not 0 <= box_index < len(record.boxes):
                return f"phrase {index} names box {box_index}, but there are {len(record.boxes)} boxes"
    return None


def _problem_of_spans(spans: Spans, text: str) -> str | None:
    for start, end in spans:
        if type(start) is not int or type(end) is not int:
            return f"span ({start!r}, {end!r}) must be whole numbers"
        if not 0 <= start < end <= len(text):
            return f"span ({start}, {end}) is outside its text of {len(text)} characters, or empty"
    return None


def _problem_of_answer(record: Record) -> str | None:
    if record.answer_type is not None:
        if record.answer_type not in ANSWER_TYPES:
            known = ", ".join(sorted(ANSWER_TYPES))
            return f"answer type {record.answer_type!r} is unknown (known: {known})"
        if record.answer is None:
            return f"it has the answer type {record.answer_type!r} but no answer"
    if record.extra is not None:
        try:
            json.loads(record.extra)
        except ValueError:
            return f"its extra field is not JSON: {record.extra[:40]!r}"
    return None


# Rules of validate_record, by the part of the record.
_RULES = (
    ("entry", _problem_of_kinds),
    ("image", _problem_of_image),
    ("box", _problem_of_boxes),
    ("text", _problem_of_text),
    ("span", _problem_of_all_spans),
    ("entry", _problem_of_answer),
)
