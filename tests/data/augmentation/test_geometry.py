"""Geometric changes of records: spans move with swapped words, and a damaged mask is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdetr.data.augmentation.geometry import move_masks, swap_sides
from mdetr.data.record import Phrase, Record, validate_record
from mdetr.errors import InvalidRecordError

RED = Record(
    *("tests", "train", "1", "image.png", "1", 120, 80, "the red thing"),
    boxes=((10.0, 10.0, 30.0, 40.0),),
    spans=(((0, 13),),),
)


@pytest.mark.parametrize("counts", [b"", b"oooooooooooooooo"])
def test_a_damaged_mask_is_refused_with_its_record(counts: bytes) -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    record = Record("made", "train", "7", "a.png", "a", 9, 9, "a cat", (box,), ((),), masks=(counts,))
    with pytest.raises(InvalidRecordError, match=r"Record '7' .* not those of 9 x 9 pixels"):
        move_masks(record, lambda masks: masks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the LEFT one, Left of it; left", "the RIGHT one, Right of it; right"),
        ("bright copyright, cleft, rightful", "bright copyright, cleft, rightful"),
        ("the leftmost, right-hand and lefthand ones", "the rightmost, left-hand and righthand ones"),
        ("left right left", "right left right"),
    ],
)
def test_only_words_that_name_a_side_are_swapped(text: str, expected: str) -> None:
    record = replace(RED, text=text, spans=(((0, len(text)),),), phrases=None)
    swapped = swap_sides(record, ("en",))
    assert swapped is not None
    assert swapped.text == expected
    assert swapped.spans == (((0, len(expected)),),)
    assert swap_sides(swapped, ("en",)) == record


WORDS = st.sampled_from(["left", "right", "Left", "RIGHT", "ball", "bright", "a", "leftmost", "ok,"])


@given(st.lists(WORDS, min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_spans_of_flipped_text_still_read_the_swapped_words(words: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))

    def span_of(all_words: list[str]) -> tuple[int, int]:
        start = sum(len(word) + 1 for word in all_words[:first])
        return start, start + len(" ".join(all_words[first : last + 1]))

    other = {"left": "right", "right": "left", "Left": "Right", "RIGHT": "LEFT", "leftmost": "rightmost"}
    swapped_words = [other.get(word, word) for word in words]
    span = span_of(words)
    record = replace(RED, text=" ".join(words), spans=((span,),), phrases=(Phrase((span,), (0,)),))
    swapped = swap_sides(record, ("en",))
    assert swapped is not None
    assert swapped.text == " ".join(swapped_words)
    assert swapped.spans == ((span_of(swapped_words),),)
    assert swapped.phrases == (Phrase((span_of(swapped_words),), (0,)),)


@given(st.text("leftrigh ", max_size=40), st.data())
@settings(deadline=None)
def test_spans_that_cut_a_swapped_word_stay_valid(text: str, data: st.DataObject) -> None:
    text += "left"
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    record = replace(RED, text=text, spans=(((start, end),),), phrases=None)
    swapped = swap_sides(record, ("en",))
    assert swapped is not None
    validate_record(swapped)
