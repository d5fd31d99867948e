"""Outputs and captions in, Recall@1, @5, @10 and the upper bound of their phrases' boxes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mdetr.data.record import Phrase, Record, Spans
from mdetr.errors import InvalidInputError
from mdetr.model.interface import MdetrOutput
from mdetr.processor import MdetrProcessor
from mdetr.targets import token_ranges
from mdetr.tasks.predictions import predictions_of
from mdetr.tasks.ranking import enclosing_box, first_hit, share_within
from mdetr.tasks.rows import RecordRows

GroundingProtocol = Literal["any_box", "merged_boxes"]

_TRUTHS: dict[GroundingProtocol, Callable[[Tensor], Tensor]] = {
    "any_box": lambda boxes: boxes,
    "merged_boxes": enclosing_box,
}


class PhraseGroundingScorer:
    """Recall@k of phrase grounding.

    Scores the phrases that have a box, of records that do not single out a box (`is_referred` is None), and
    passes over all other records. The boxes of a phrase are ranked by the most likely of its tokens.

    Source: arXiv 2104.12763, section 4.1 (Flickr30k Entities), with both protocols of its table 3.
    """

    def __init__(self, processor: MdetrProcessor, protocol: GroundingProtocol = "any_box") -> None:
        """Start without any record.

        Args:
            processor: the model's own, which says which tokens a phrase has.
            protocol: "any_box", where a box is right that overlaps some true box by half; or "merged_boxes",
                where it must so overlap the one box that encloses them all.

        Raises:
            InvalidInputError: there is no such protocol.
        """
        if protocol not in _TRUTHS:
            raise InvalidInputError(
                f"Expected one of {', '.join(_TRUTHS)} as protocol of phrase grounding, found {protocol!r}."
            )
        self._processor = processor
        self._truth_of = _TRUTHS[protocol]
        self._places = RecordRows(columns=1)

    def update(self, output: MdetrOutput, records: Sequence[Record]) -> None:
        """Score a batch.

        Args:
            output: of the model, for B texts.
            records: the B records of these texts, in order.

        Raises:
            InvalidInputError: there are more or fewer records than texts.
        """
        encoding = self._processor.tokenize([record.text for record in records])
        for row, (record, found) in enumerate(zip(records, predictions_of(output, records), strict=True)):
            places: list[float] = []
            for phrase in phrases_of(record):
                scores = phrase_scores(found.token_probabilities, token_ranges(encoding, row, phrase.spans))
                ranked = found.boxes[scores.argsort(descending=True, stable=True)]
                truth = self._truth_of(torch.tensor([record.boxes[i] for i in phrase.box_indices]))
                places.append(first_hit(ranked, truth))
            self._places.add(record, np.array(places)[:, None])

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            recall@1, @5, @10, and upper_bound, the recall of all boxes; nothing where no phrase was scored.
        """
        _, places = self._places.merged()
        if not len(places):
            return {}
        recalls = {f"recall@{k}": share for k, share in share_within(places).items()}
        return recalls | {"upper_bound": float(np.isfinite(places).mean())}


def phrases_of(record: Record) -> tuple[Phrase, ...]:
    """List the phrases of a caption that have a box.

    These are `record.phrases`, or, where it has none, the distinct spans of its boxes: boxes with the same
    spans are the boxes of one phrase. A referring expression (`is_referred` is not None) has none.
    """
    if record.is_referred is not None:
        return ()
    if record.phrases is not None:
        return tuple(phrase for phrase in record.phrases if phrase.box_indices)
    boxes_of: dict[Spans, list[int]] = {}
    for index, spans in enumerate(record.spans):
        if spans:
            boxes_of.setdefault(spans, []).append(index)
    return tuple(Phrase(spans, tuple(indices)) for spans, indices in boxes_of.items())


def phrase_scores(token_probabilities: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """Say how likely each query speaks of a phrase: the most likely of its tokens.

    Args:
        token_probabilities: (Q, T).
        ranges: the phrase's tokens, (first, last) each.

    Returns:
        (Q,) probabilities, all 0 for a phrase without tokens.
    """
    scores = [token_probabilities[:, first : last + 1].amax(1) for first, last in ranges]
    return torch.stack(scores).amax(0) if scores else torch.zeros(len(token_probabilities))
