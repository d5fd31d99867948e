"""Score of one example, for tables and for visualizations of the worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mdetr.data.record import Record
from mdetr.processing.detections import GAP, Grounding


@dataclass(frozen=True)
class ExampleScore:
    """A record, its prediction and the score of that.

    Attributes:
        record: The record.
        score: From 0, wrong, to 1, correct; NaN where the truth is unknown.
        groundings: Predicted boxes that determine the score.
        answer: Predicted answer to a question.
    """

    record: Record
    score: float
    groundings: tuple[Grounding, ...] = ()
    answer: str | None = None

    def prediction(self) -> dict[str, Any]:
        """The prediction, as JSON can represent it."""
        return _to_json(self.groundings, self.answer)

    def truth(self) -> dict[str, Any]:
        """The annotations of the record, in the same form."""
        return _to_json(true_groundings(self.record), self.record.answer)


def true_groundings(record: Record) -> tuple[Grounding, ...]:
    """Annotated boxes of a record.

    Args:
        record: The record.

    Returns:
        Its boxes, with NaN as score; of a referring expression only those that it denotes, which get the
        whole text as phrase.
    """
    groundings = []
    for index, (box, spans) in enumerate(zip(record.boxes, record.spans, strict=True)):
        if record.is_referred is not None:
            if not record.is_referred[index]:
                continue
            spans = ((0, len(record.text)),)
        groundings.append(Grounding(words_of(record.text, spans), spans, box, math.nan))
    return tuple(groundings)


def words_of(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The words of some spans of a text.

    Args:
        text: The text.
        spans: Characters, (start, end) each, end exclusive.

    Returns:
        The words, with a gap between spans.
    """
    return GAP.join(text[start:end] for start, end in spans)


def _to_json(groundings: Sequence[Grounding], answer: str | None) -> dict[str, Any]:
    boxes = []
    for grounding in groundings:
        box: dict[str, Any] = {
            "phrase": grounding.phrase,
            "spans": [list(span) for span in grounding.spans],
            "box": list(grounding.box),
        }
        if not math.isnan(grounding.score):
            box["score"] = grounding.score
        boxes.append(box)
    content: dict[str, Any] = {"boxes": boxes}
    if answer is not None:
        content["answer"] = answer
    return content
