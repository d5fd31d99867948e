"""Coordinate types of images and texts, without any import of torch."""

from __future__ import annotations

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

Size = tuple[int, int]
"""(height, width) in pixels."""

Span = tuple[int, int]
"""(start, end) in characters of a text, end exclusive."""

Spans = tuple[Span, ...]
"""Characters of one phrase, in order; several spans if words in between do not belong to it."""
