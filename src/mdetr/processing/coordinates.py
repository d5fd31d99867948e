"""Coordinate types of images and texts, without any import of torch."""

from __future__ import annotations

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

Size = tuple[int, int]
"""(height, width) in pixels."""

Span = tuple[int, int]
"""(start, end) of characters of a text, end exclusive."""

Spans = tuple[Span, ...]
"""The characters of one phrase, in order; several spans where words between them do not belong to it."""
