"""Cleanup of the spans of a text: trimmed to words, sorted, merged."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from mdetr.processing.coordinates import Span, Spans


def consolidate_spans(spans: Iterable[Span], text: str) -> Spans:
    """Merge overlapping spans, trim characters that belong to no word, and extend over hyphenated words.

    Adjacent spans are not merged; spans that are empty after trimming are dropped. A negative start, such as
    -1 of a failed search, counts as 0.

    Source: arXiv 2104.12763, appendix B; the released data were made with two passes.
    """
    consolidated = list(spans)
    for _ in range(2):
        merged = _merge(consolidated)
        consolidated = []
        for start, end in merged:
            start, end = _trim(start, end, text)
            if start < end:
                consolidated.append(_whole_words(start, end, text))
    return tuple(consolidated)


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
    """Check for letters, digits and combining marks: accents, vowels of Hindi and Thai."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _whole_words(start: int, end: int, text: str) -> Span:
    """Extend a span next to a hyphen to the space before or after."""
    if start > 0 and text[start - 1] == "-":
        start = text.rfind(" ", 0, start) + 1
    if end < len(text) and text[end] == "-":
        space = text.find(" ", end)
        end = len(text) if space < 0 else space
    return start, end
