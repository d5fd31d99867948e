"""Checks of single records: spans, boxes, texts and phrases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from mdetr.data.checks.findings import Finding, Kind, Tally, shorten
from mdetr.data.checks.kinds import LONG_TEXTS, MANY_BOXES, SMALL_AREA, SMALL_SIDE, with_limit
from mdetr.data.record import Record
from mdetr.processing.coordinates import Box, Spans
from mdetr.processing.words import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_KOREAN = regex.compile(r"\p{Hangul}")


class EachRecord:
    """Checks each record independently."""

    def __init__(self, kind: Kind, find: Callable[[Record], Iterator[str]]) -> None:
        """Initialize the count.

        Args:
            kind: Kind of problem.
            find: Function from a record to the descriptions of its problems.
        """
        self._tally = Tally(kind)
        self._find = find

    def update(self, record: Record, image: Path | bytes, where: str) -> None:
        for what in self._find(record):
            self._tally.add(record.id, what, where)

    def finish(self) -> Sequence[Finding]:
        return self._tally.findings()


class ManyBoxes(EachRecord):
    """Finds texts with more boxes than the model has queries."""

    def __init__(self, num_queries: int) -> None:
        def find(record: Record) -> Iterator[str]:
            if len(record.boxes) > num_queries:
                yield f"{len(record.boxes)} boxes for {shorten(record.text)}"

        super().__init__(with_limit(MANY_BOXES, num_queries), find)


class LongTexts(EachRecord):
    """Finds texts with more tokens than the model has positions."""

    def __init__(self, tokenizer: Callable[[], PreTrainedTokenizerBase], max_tokens: int) -> None:
        """Initialize the check.

        Args:
            tokenizer: Function that loads the model's tokenizer, called for the first text of many bytes.
            max_tokens: Maximum number of tokens, including special tokens.
        """
        loaded: list[PreTrainedTokenizerBase] = []

        def find(record: Record) -> Iterator[str]:
            # A tokenizer makes at most one token per byte, besides the special tokens
            if len(record.text.encode()) + 8 <= max_tokens:
                return
            if not loaded:
                loaded.append(tokenizer())
            encoding = loaded[0](record.text, split_special_tokens=True, verbose=False)
            count = len(encoding["input_ids"])
            if count > max_tokens:
                yield f"{count} tokens in {shorten(record.text)}"

        super().__init__(with_limit(LONG_TEXTS, max_tokens), find)


def cut_words(record: Record) -> Iterator[str]:
    """Find spans that begin or end inside a word, or with white space."""
    text = record.text
    words: Words | None = None
    for start, end in _all_spans(record):
        span = text[start:end]
        if span != span.strip():
            yield f"{span!r} begins or ends with a space"
            continue
        if _is_between_words(text, start) and _is_between_words(text, end):
            continue
        words = words or Words(text)
        first, last = words.expand(start, end)
        if last > end and _KOREAN.match(text[end - 1]) and _KOREAN.match(text[end]):
            last = end  # Korean nouns take particles
        if (first, last) != (start, end):
            yield f"{span!r} is a part of {text[first:last]!r}"


def boxes_without_words(record: Record) -> Iterator[str]:
    """Find boxes without words, except those of questions, whose boxes are evidence for the answer."""
    for box, spans in zip(record.boxes, record.spans, strict=True):
        if not spans and record.answer is None:
            yield f"box {_format_box(box)} of {shorten(record.text)}"


def phrases_without_boxes(record: Record) -> Iterator[str]:
    """Find phrases to evaluate that have no box."""
    for phrase in record.phrases or ():
        if not phrase.box_indices:
            yield f"{_words_of(record.text, phrase.spans)!r} in {shorten(record.text)}"


def texts_without_boxes(record: Record) -> Iterator[str]:
    """Find texts, other than questions, without a box."""
    if not record.boxes and record.answer is None:
        yield shorten(record.text)


def nothing_referred(record: Record) -> Iterator[str]:
    """Find referring expressions with boxes of which none is marked as the referred one."""
    if record.boxes and record.is_referred is not None and not any(record.is_referred):
        yield shorten(record.text)


def fractions(record: Record) -> Iterator[str]:
    """Find records whose boxes all lie in the first pixel of a larger image."""
    if _has_fractions(record):
        yield f"box {_format_box(record.boxes[0])} in an image of {record.width} x {record.height} pixels"


def small_boxes(record: Record) -> Iterator[str]:
    """Find very small boxes; see `SMALL_BOXES`."""
    if _has_fractions(record):
        return
    for x0, y0, x1, y1 in record.boxes:
        width, height = x1 - x0, y1 - y0
        if min(width, height) < SMALL_SIDE or width * height < SMALL_AREA * record.width * record.height:
            yield (
                f"box {_format_box((x0, y0, x1, y1))}, {width:g} x {height:g} pixels in an image of "
                f"{record.width} x {record.height}"
            )


def _all_spans(record: Record) -> dict[tuple[int, int], None]:
    """Collect the distinct spans of the boxes and phrases of a record, in order."""
    spans: dict[tuple[int, int], None] = {}
    for spans_of_box in record.spans:
        spans.update(dict.fromkeys(spans_of_box))
    for phrase in record.phrases or ():
        spans.update(dict.fromkeys(phrase.spans))
    return spans


def _is_between_words(text: str, index: int) -> bool:
    """Check whether a position is at an end of the text or next to white space."""
    return index in (0, len(text)) or text[index - 1].isspace() or text[index].isspace()


def _has_fractions(record: Record) -> bool:
    is_large = min(record.width, record.height) > 4
    return is_large and bool(record.boxes) and all(max(x1, y1) <= 1.01 for _, _, x1, y1 in record.boxes)


def _words_of(text: str, spans: Spans) -> str:
    return " ... ".join(text[start:end] for start, end in spans)


def _format_box(box: Box) -> str:
    return "({:g}, {:g}, {:g}, {:g})".format(*box)
