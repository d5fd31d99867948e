"""Cleanup of the spans of a text: trimmed to words, sorted, merged."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from mdetr.processing.coordinates import Span, Spans


def consolidate_spans(spans: Iterable[Span], text: str) -> Spans:
    """Merge overlapping spans, cut what is no word at their ends, and take hyphenated words whole.

    Spans that touch stay apart; empty ones, and ones of which nothing is left, go. A start before the text,
    as a failed search gives (-1), counts from the text's beginning.

    Source: arXiv 2104.12763, appendix B; the published data were made so, in two passes.
    """
    found = list(spans)
    for _ in range(2):
        merged = _merge(found)
        trimmed = (_trim(start, end, text) for start, end in merged)
        found = [_whole_words(start, end, text) for start, end in trimmed if start < end]
    return tuple(found)


def _merge(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _trim(start: int, end: int, text: str) -> Span:
    start, end = max(start, 0), min(end, len(text))
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not _belongs_to_word(text[end - 1]):
        end -= 1
    return start, end


def _belongs_to_word(character: str) -> bool:
    """Letters, digits, and the marks that a letter carries: accents, vowels of Hindi and Thai."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _whole_words(start: int, end: int, text: str) -> Span:
    """Extend over hyphens: to the space before, and to the space behind."""
    if start > 0 and text[start - 1] == "-":
        start = text.rfind(" ", 0, start) + 1
    if end < len(text) and text[end] == "-":
        space = text.find(" ", end)
        end = len(text) if space < 0 else space
    return start, end
