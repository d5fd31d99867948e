"""Tests of the record's rules: what breaks one is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from mdetr.data.record import SCHEMA, Phrase, Record, from_row, to_row, validate_record
from mdetr.errors import InvalidRecordError

RECORD = Record(
    source="tests",
    split="val",
    id="7",
    image="a/b.jpg",
    image_id="b",
    width=100,
    height=50,
    text="a red cube and two balls",
    boxes=((0.0, 0.0, 10.5, 20.0), (30.25, 10.0, 100.0, 50.0)),
    spans=(((0, 10),), ()),
    is_referred=(True, False),
    masks=(b"012", b"\xff\x00"),
    phrases=(Phrase(((0, 1), (2, 10)), (0,)), Phrase(((15, 24),), ())),
    answer="2",
    answer_type="reg",
    category_ids=(3, 1),
    extra='{"task": 5}',
)


def test_a_record_without_fault_passes() -> None:
    validate_record(RECORD)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": ""}, "names no image"),
        ({"width": 0}, "positive width and height, got 0 x 50"),
        ({"text": " "}, "text is empty"),
        ({"text": "a red cube and \ud83d"}, "not valid Unicode"),
        (
            {"boxes": ((0, 0, 10, 20), (30, 10, 101, 50))},
            r"box 1 \(30, 10, 101, 50\) leaves the image of 100 x 50",
        ),
        ({"boxes": ((-1, 0, 10, 20), (30, 10, 100, 50))}, "box 0 .* leaves the image"),
        ({"boxes": ((5, 0, 5, 20), (30, 10, 100, 50))}, "box 0 .* is empty"),
        ({"boxes": ((0, 0, float("nan"), 20), (30, 10, 100, 50))}, "box 0 .* is not finite"),
        ({"boxes": ((5, 0, 5 + 1e-9, 20), (30, 10, 100, 50))}, "box 0 .* is empty .* in 32 bits"),
        ({"boxes": ((0, 0, 1e39, 20), (30, 10, 100, 50))}, "box 0 .* leaves the image"),
        ({"boxes": ((0, 0, 10**400, 20), (30, 10, 100, 50))}, "box 0 .* leaves the image"),
        ({"boxes": ((0, 0, 10), (30, 10, 100, 50))}, "box 0 must be four numbers"),
        ({"boxes": ((0, 0, "9", 20), (30, 10, 100, 50))}, "box 0 must be four numbers"),
        ({"id": "\ud83d"}, r"record '\\ud83d' .* its id is not valid Unicode"),
        ({"image": "\ud83d.png"}, "its image is not valid Unicode"),
        ({"answer": "\ud83d"}, "its answer is not valid Unicode"),
        ({"text": None}, "its text must be a text, got None"),
        ({"answer_type": ["obj"]}, r"its answer_type must be a text, got \['obj'\]"),
        ({"width": 100.0}, "width and height must be whole numbers"),
        ({"is_referred": ("false", True)}, "is_referred must be true or false for each box, got 'false'"),
        ({"masks": ("012", b"")}, "masks must be run lengths"),
        ({"category_ids": (3, 2**31)}, r"category_ids must be below 2\*\*31"),
        ({"spans": (((0, 10.0),), ())}, r"span \(0, 10.0\) must be whole numbers"),
        ({"spans": (((0, 25),), ())}, r"span \(0, 25\) is outside its text of 24 characters"),
        ({"spans": (((5, 5),), ())}, r"span \(5, 5\) is outside its text .* or empty"),
        ({"spans": (((0, 10),),)}, "spans must have one entry per box, got 1 for 2 boxes"),
        ({"is_referred": (True,)}, "is_referred must have one entry per box"),
        ({"masks": (b"1",)}, "masks must have one entry per box"),
        ({"category_ids": ()}, "category_ids must have one entry per box"),
        ({"phrases": (Phrase(((0, 99),), (0,)),)}, r"span \(0, 99\) is outside .* \(phrase 0\)"),
        ({"phrases": (Phrase(((0, 9),), (2,)),)}, "phrase 0 names box 2, but there are 2 boxes"),
        ({"answer_type": "color"}, "answer type 'color' is unknown"),
        ({"answer": None}, "the answer type 'reg' but no answer"),
        ({"extra": "{"}, "extra field is not JSON"),
    ],
)
def test_each_broken_rule_is_named_with_the_entry(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRecordError, match=told) as caught:
        validate_record(replace(RECORD, **change), where="captions.json, entry 3")
    assert "captions.json, entry 3" in str(caught.value)
    assert "of source 'tests', split 'val'" in str(caught.value)
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, image=b"\x89PNG"),
        Record("tests", "val", "8", "b.jpg", "b", 3, 4, "nothing"),
        replace(RECORD, boxes=(), spans=(), is_referred=(), masks=(), phrases=(), category_ids=()),
    ],
)
def test_a_record_survives_its_row(record: Record) -> None:
    (row,) = pa.Table.from_pylist([to_row(record)], schema=SCHEMA).to_pylist()
    assert from_row(row) == record
