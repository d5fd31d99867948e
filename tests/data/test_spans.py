"""Consolidated spans: on the rules, one by one, and on what the released data have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdetr.data.spans import consolidate_spans


@pytest.mark.parametrize(
    ("text", "spans", "expected"),
    [
        ("a red cube", [(6, 10), (2, 8)], ((2, 10),)),  # overlapping ones are one
        ("a red cube", [(0, 5), (5, 10)], ((0, 5), (6, 10))),  # touching ones stay apart
        ("a red cube.", [(1, 11)], ((2, 10),)),  # no space, no dot
        ("a bear-shaped cookie", [(2, 6)], ((2, 13),)),  # to the next space
        ("a bear-shaped cookie", [(7, 13)], ((2, 13),)),  # from the previous one
        ("a bear-shaped", [(2, 6)], ((2, 13),)),
        ("a red cube", [(1, 2), (5, 6)], ()),  # nothing but spaces
        ("What is it?", [(-1, 4)], ((0, 4),)),
        ("un cafe\u0301.", [(3, 9)], ((3, 8),)),  # an accent belongs to its letter
        ("लाल गेंद, वह नदी", [(0, 9), (13, 16)], ((0, 8), (13, 16))),  # and a vowel sign to its consonant
    ],
)
def test_rules(text: str, spans: list[tuple[int, int]], expected: tuple[tuple[int, int], ...]) -> None:
    assert consolidate_spans(spans, text) == expected


@given(
    st.text("ab-. ", max_size=30), st.lists(st.tuples(st.integers(-1, 31), st.integers(-1, 31)), max_size=5)
)
def test_spans_stay_within_the_text_in_order_and_hold_a_word(text: str, spans: list[tuple[int, int]]) -> None:
    found = consolidate_spans(spans, text)
    assert list(found) == sorted(found)
    for start, end in found:
        assert 0 <= start < end <= len(text)
        assert any(character.isalnum() for character in text[start:end])
