"""Texts of words, boxes and records, drawn at random for the tests of properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mdetr.data.record import Record
from mdetr.processing.coordinates import Box, Span

WORDS = st.one_of(
    st.sampled_from(["cube", "red", "a", "ball", "l'été", "naïve", "文件", "кот", "B2", "x"]),
    st.text("abcdefghijklmnopqrstuvwxyzéßжλ", min_size=1, max_size=8),
)


@st.composite
def texts_with_spans(draw: Any, count: int, max_words: int = 8) -> tuple[str, list[Span]]:
    """A text of words, and spans that each cut some adjacent words of it."""
    words = draw(st.lists(WORDS, min_size=1, max_size=max_words))
    spans: list[Span] = []
    for _ in range(count):
        first = draw(st.integers(0, len(words) - 1))
        last = draw(st.integers(first, len(words) - 1))
        start = sum(len(word) + 1 for word in words[:first])
        spans.append((start, start + len(" ".join(words[first : last + 1]))))
    return " ".join(words), spans


@st.composite
def boxes_within(draw: Any, width: int, height: int) -> Box:
    """A box of at least a pixel in an image."""
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return float(x0), float(y0), float(x1), float(y1)


@st.composite
def records(draw: Any, width: int, height: int, number: int = 0, max_boxes: int = 4) -> Record:
    """A record whose boxes have their indices as the ids of their classes."""
    boxes = draw(st.lists(boxes_within(width, height), max_size=max_boxes))
    text, spans = draw(texts_with_spans(len(boxes)))
    return Record(
        source="made",
        split="train",
        id=str(number),
        image="a.png",
        image_id="a",
        width=width,
        height=height,
        text=text,
        boxes=tuple(boxes),
        spans=tuple((span,) for span in spans),
        category_ids=tuple(range(len(boxes))),
    )


def words_of(record: Record) -> dict[int, list[str]]:
    """The words of each box, by the id of its class."""
    return {
        category: [record.text[start:end] for start, end in spans]
        for category, spans in zip(record.category_ids or (), record.spans, strict=True)
    }
