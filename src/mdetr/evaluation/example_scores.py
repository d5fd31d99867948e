"""The score of one example, for tables and for pictures of the worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mdetr.data.record import Record
from mdetr.processing.detections import GAP, Grounding


@dataclass(frozen=True)
class ExampleScore:
    """A record, what the model said, and how right that is.

    score: from 1, right, to 0, wrong; NaN where the truth is not known. found: the boxes that the score rests
    on. answer: to a question.
    """

    record: Record
    score: float
    found: tuple[Grounding, ...] = ()
    answer: str | None = None

    def prediction(self) -> dict[str, Any]:
        """What the model said, as JSON can hold it."""
        return _plain(self.found, self.answer)

    def truth(self) -> dict[str, Any]:
        """What the record says, in the same form."""
        return _plain(true_groundings(self.record), self.record.answer)


def true_groundings(record: Record) -> tuple[Grounding, ...]:
    """A record's boxes without a score (NaN); those that the text as a whole denotes, if it denotes any."""
    chosen = [
        (box, spans if record.is_referred is None else ((0, len(record.text)),))
        for n, (box, spans) in enumerate(zip(record.boxes, record.spans, strict=True))
        if record.is_referred is None or record.is_referred[n]
    ]
    return tuple(Grounding(words_of(record.text, spans), spans, box, math.nan) for box, spans in chosen)


def words_of(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The words of some spans."""
    return GAP.join(text[start:end] for start, end in spans)


def _plain(groundings: Sequence[Grounding], answer: str | None) -> dict[str, Any]:
    boxes = [
        {"phrase": found.phrase, "spans": [list(span) for span in found.spans], "box": list(found.box)}
        | ({} if math.isnan(found.score) else {"score": found.score})
        for found in groundings
    ]
    return {"boxes": boxes} | ({} if answer is None else {"answer": answer})
