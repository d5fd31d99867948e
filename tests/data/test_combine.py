"""Combined captions: those of the release, and what must hold for any captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdetr.data.combine import combine_records, conflict_matrix
from mdetr.data.record import Record, validate_record

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sources" / "combine" / "expected.json"


def _record(number: int, text: str, boxes: list[Any], spans: list[Any]) -> Record:
    return Record(
        source="made",
        split="train",
        id=str(number),
        image="a.jpg",
        image_id="a",
        width=1000,
        height=1000,
        text=text,
        boxes=tuple(tuple(box) for box in boxes),
        spans=tuple(tuple(tuple(span) for span in own) for own in spans),
    )


def _from_coco(row: dict[str, Any]) -> Record:
    corners = [(x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in row["annotations"])]
    spans = [annotation["tokens_positive"] for annotation in row["annotations"]]
    return _record(row["original_id"], row["caption"], corners, spans)


def test_exact_combination_is_that_of_the_release() -> None:
    recorded = json.loads(FIXTURE.read_text())
    found = [
        (record.text, [[list(span) for span in own] for own in record.spans], record.boxes)
        for rows in recorded["raw"].values()
        for record in combine_records([_from_coco(row) for row in rows], exact=True)
    ]
    expected = [
        (made.text, [[list(span) for span in own] for own in made.spans], made.boxes)
        for made in (_from_coco(row) for row in recorded["combined"])
    ]
    assert len(expected) == 19
    for one, other in zip(sorted(found), sorted(expected), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_allclose(one[2], other[2])


def test_released_captions_may_be_too_long_and_ours_are_not() -> None:
    recorded = json.loads(FIXTURE.read_text())
    images = [[_from_coco(row) for row in rows] for rows in recorded["raw"].values()]
    exact = [record for image in images for record in combine_records(image, exact=True)]
    strict = [record for image in images for record in combine_records(image)]
    assert max(len(record.text) for record in exact) > 250
    assert max(len(record.text) for record in strict) <= 250


@st.composite
def _captions(draw: st.DrawFn) -> list[Record]:
    records = []
    for number in range(draw(st.integers(1, 12))):
        words = draw(
            st.lists(st.sampled_from(["red", "cube", "a", "man-made", "ball"]), min_size=1, max_size=9)
        )
        text = " ".join(words) + draw(st.sampled_from(["", ".", "?", " "]))
        boxes, spans = [], []
        for _ in range(draw(st.integers(0, 3))):
            x, y = draw(st.integers(0, 3)) * 30, draw(st.integers(0, 3)) * 30
            place = draw(st.integers(0, len(words) - 1))
            start = len(" ".join(words[:place])) + (place > 0)
            boxes.append((x, y, x + 40, y + 40))
            spans.append([(start, start + len(words[place]))])
        records.append(_record(number, text, boxes, spans))
    return records


@settings(max_examples=80, deadline=None)
@given(_captions())
def test_nothing_is_lost_nothing_conflicts_and_every_span_reads_the_same(records: list[Record]) -> None:
    combined = combine_records(records, max_length=60)
    by_id = {record.id: record for record in records}
    conflicts = conflict_matrix(records)
    seen = []
    for record in combined:
        validate_record(record)
        members = [by_id[number] for _, _, number in json.loads(record.extra)["members"]]
        seen += [member.id for member in members]
        assert len(record.text) <= 60 or len(members) == 1
        assert not conflicts[np.ix_([int(m.id) for m in members], [int(m.id) for m in members])].any()
        assert record.boxes == tuple(box for member in members for box in member.boxes)
        words = [member.text[s:e] for member in members for own in member.spans for s, e in own]
        assert [record.text[s:e] for own in record.spans for s, e in own] == words
    assert sorted(seen, key=int) == [record.id for record in records]


def test_no_captions_give_none_and_one_stays_itself() -> None:
    assert combine_records([]) == []
    (alone,) = combine_records([_record(0, "a cube", [(0, 0, 9, 9)], [[(0, 6)]])])
    assert alone.text == "a cube."
    assert alone.spans == (((0, 6),),)


@pytest.mark.parametrize(("shift", "conflict"), [(0, True), (3, True), (4, False)])
def test_boxes_conflict_from_an_overlap_of_more_than_half(shift: int, conflict: bool) -> None:
    box = (0, 0, 10, 10)
    records = [_record(0, "a", [box], [[]]), _record(1, "b", [(shift, 0, shift + 10, 10)], [[]])]
    assert conflict_matrix(records)[0, 1] == conflict
