"""Recall@k of phrase grounding (Flickr30k Entities)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Phrase, Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.distributed import GroupedRows
from mdetr.evaluation.example_scores import ExampleScore, words_of
from mdetr.evaluation.metrics.contract import paired
from mdetr.evaluation.metrics.ranking import enclosing_box, first_hit, share_within
from mdetr.processing.coordinates import Spans
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction
from mdetr.processing.tokens import token_ranges

ALL = "all"  # the group of all phrases
GroundingProtocol = Literal["any_box", "merged_boxes"]

_TRUTHS: dict[GroundingProtocol, Callable[[Tensor], Tensor]] = {
    "any_box": lambda boxes: boxes,
    "merged_boxes": enclosing_box,
}


class PhraseGroundingMetric:
    """Recall@k of phrase grounding.

    Scores the phrases that have a box, of records that do not single out a box (`is_referred` is None), and
    passes over all other records. The boxes of a phrase are ranked by the most likely of its tokens.

    Source: arXiv 2104.12763, section 4.1 (Flickr30k Entities), with both protocols of its table 3.
    """

    def __init__(self, protocol: GroundingProtocol = "any_box") -> None:
        """Start without any record.

        Args:
            protocol: "any_box", where a box is right that overlaps some true box by half; or "merged_boxes",
                where it must so overlap the one box that encloses them all.

        Raises:
            InvalidInputError: there is no such protocol.
        """
        if protocol not in _TRUTHS:
            raise InvalidInputError(
                f"Expected one of {', '.join(_TRUTHS)} as protocol of phrase grounding, found {protocol!r}."
            )
        self._truth_of = _TRUTHS[protocol]
        self._places = GroupedRows(columns=1)

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: of the model, for B texts.
            records: the B records of these texts, in order.

        Returns:
            For each record with phrases, the share of them whose first box is right.

        Raises:
            InvalidInputError: there are more or fewer records than predictions.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            ranked, best = [], []
            for phrase in phrases_of(record):
                found = rank_for_phrase(prediction, phrase.spans)
                ranked.append(torch.from_numpy(found.boxes_xyxy))
                best.append(replace(found[0], phrase=words_of(record.text, phrase.spans), spans=phrase.spans))
            places_of_hits = self.score_phrases(record, ranked)
            if places_of_hits:
                right = sum(place < 1 for place in places_of_hits) / len(places_of_hits)
                example_scores.append(ExampleScore(record, right, tuple(best)))
        return example_scores

    def score_phrases(self, record: Record, ranked: Sequence[Tensor]) -> list[float]:
        """Score the ranked boxes (Q, 4), x0, y0, x1, y1 in pixels, of each of a record's phrases.

        Returns:
            The place of each phrase's first right box (`first_hit`).
        """
        truths = [self._truth_of(boxes) for boxes in _true_boxes(record)]
        found = [first_hit(boxes, truth) for boxes, truth in zip(ranked, truths, strict=True)]
        of_type: dict[str, list[float]] = {ALL: found}
        for place, types in zip(found, _types(record), strict=True):
            for name in types:
                of_type.setdefault(name, []).append(place)
        for name, own in of_type.items():
            self._places.add(name, record, np.array(own)[:, None])
        return found

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            recall@1, @5, @10, and upper_bound, the recall of all boxes; the same with "/TYPE" for each type
            of phrase, where the data set tells types; num_phrases, of how many. Nothing where no phrase was
            scored.
        """
        scores: dict[str, float] = {}
        for name, places in self._places.merged().items():
            if len(places):
                end = "" if name == ALL else f"/{name}"
                scores |= {f"recall@{k}{end}": share for k, share in share_within(places).items()}
                scores[f"upper_bound{end}"] = float(np.isfinite(places).mean())
                if name == ALL:
                    scores["num_phrases"] = float(len(places))
        return scores


def _true_boxes(record: Record) -> list[Tensor]:
    """The boxes of each phrase: as annotated, where the source keeps them, before any were made one."""
    annotated = protocol_fields(record).phrase_boxes
    if annotated is not None:
        return [torch.tensor(boxes) for boxes in annotated]
    return [torch.tensor([record.boxes[i] for i in phrase.box_indices]) for phrase in phrases_of(record)]


def _types(record: Record) -> Sequence[Sequence[str]]:
    types = protocol_fields(record).phrase_types
    return types if types is not None else [()] * len(phrases_of(record))


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


def rank_for_phrase(prediction: Prediction, spans: Spans) -> Detections:
    """All queries, best first, scored by how likely each belongs to a phrase of the text.

    Raises:
        InvalidInputError: the prediction is not of a text.
    """
    if prediction.text is None or prediction.token_probabilities is None:
        raise InvalidInputError("Phrases need the probabilities of tokens; these predictions hold none.")
    probabilities = torch.from_numpy(prediction.token_probabilities)
    scores = phrase_scores(probabilities, token_ranges(prediction.text, spans))
    order = scores.argsort(descending=True, stable=True).numpy()
    return replace(prediction.detections[order], scores=scores.numpy()[order])


def phrase_scores(token_probabilities: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """Say how likely each query belongs to a phrase: the most likely of its tokens.

    Args:
        token_probabilities: (Q, T).
        ranges: the phrase's tokens, (first, last) each.

    Returns:
        (Q,) probabilities, all 0 for a phrase without tokens.
    """
    scores = [token_probabilities[:, first : last + 1].amax(1) for first, last in ranges]
    return torch.stack(scores).amax(0) if scores else torch.zeros(len(token_probabilities))
