"""Recall@k of phrase grounding (Flickr30k Entities)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Phrase, Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.distributed import GroupedRows, RecordRows
from mdetr.evaluation.example_scores import ExampleScore, words_of
from mdetr.evaluation.metrics.contract import paired
from mdetr.evaluation.metrics.ranking import MIN_OVERLAP, enclosing_box, first_hit, recall_at
from mdetr.processing.coordinates import Spans
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction
from mdetr.processing.tokens import token_ranges

ALL = "all"  # the group of all phrases
SEVERAL_BOXES = "several_boxes"  # the group of phrases with more than one box
GroundingProtocol = Literal["any_box", "merged_boxes"]

_TRUTHS: dict[GroundingProtocol, Callable[[Tensor], Tensor]] = {
    "any_box": lambda boxes: boxes,
    "merged_boxes": enclosing_box,
}


class PhraseGroundingMetric:
    """Recall@k of phrase grounding.

    Scores the phrases that have a box, of records that do not single out a box (`is_referred` is None), and
    skips all other records. The boxes of a phrase are ranked by the most likely of its tokens.

    Two figures are not in the paper. `box_recall` of phrases with several boxes shows what ANY-BOX hides: the
    fraction of a phrase's n boxes that are found by its n best boxes. `presence_auc` shows whether a model
    looks at the image: the probability that the best box of a phrase has a higher score if the image shows
    what the phrase names than if it does not (phrases of `Record.phrases` without a box); 0.5 is chance.

    Source: arXiv 2104.12763, section 4.1 (Flickr30k Entities), with both protocols of its table 3.
    """

    def __init__(self, protocol: GroundingProtocol = "any_box") -> None:
        """Start without any record.

        Args:
            protocol: "any_box", where a box is correct that overlaps any true box by half; or "merged_boxes",
                where it must overlap the one box that encloses all true boxes.

        Raises:
            InvalidInputError: The protocol is unknown.
        """
        if protocol not in _TRUTHS:
            raise InvalidInputError(
                f"Expected one of {', '.join(_TRUTHS)} as protocol of phrase grounding, got {protocol!r}; "
                "choose one of these."
            )
        self._truth_of = _TRUTHS[protocol]
        self._ranks = GroupedRows(columns=1)
        self._box_recalls = RecordRows(columns=1)
        self._presence = RecordRows(columns=2)  # highest score of a phrase, and whether it has a box

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: Predictions for B texts.
            records: The B records of these texts, in order.

        Returns:
            For each record with phrases, the fraction of them whose first box is correct.

        Raises:
            InvalidInputError: The numbers of records and predictions differ.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            # Rank the boxes for each phrase
            ranked, best = [], []
            presence = []
            for phrase in phrases_of(record):
                detections = rank_for_phrase(prediction, phrase.spans)
                ranked.append(torch.from_numpy(detections.boxes_xyxy))
                presence.append((detections.scores[0], 1.0))
                words = words_of(record.text, phrase.spans)
                best.append(replace(detections[0], phrase=words, spans=phrase.spans))

            # Compare their scores with those of what the image does not show
            for phrase in absent_phrases_of(record):
                presence.append((rank_for_phrase(prediction, phrase.spans).scores[0], 0.0))
            if presence:
                self._presence.add(record, np.array(presence))

            # Score them
            ranks = self.score_phrases(record, ranked)
            if ranks:
                example_scores.append(ExampleScore(record, ranks.count(0) / len(ranks), tuple(best)))
        return example_scores

    def score_phrases(self, record: Record, ranked: Sequence[Tensor]) -> list[float]:
        """Score ranked boxes for each phrase of a record.

        Args:
            record: The record, with P phrases.
            ranked: P tensors (Q, 4), x0, y0, x1, y1 in pixels, best first.

        Returns:
            The rank of each phrase's first correct box (`first_hit`).
        """
        ranks, several, box_recalls = [], [], []
        for boxes, true_boxes in zip(ranked, _true_boxes(record), strict=True):
            ranks.append(first_hit(boxes, self._truth_of(true_boxes)))
            if len(true_boxes) > 1:
                several.append(ranks[-1])
                found = box_iou(boxes[: len(true_boxes)], true_boxes) >= MIN_OVERLAP
                box_recalls.append(float(found.any(0).float().mean()))
        self._box_recalls.add(record, np.array(box_recalls)[:, None])

        # Add them to the groups of all phrases, of those with several boxes, and of each phrase's types
        groups: dict[str, list[float]] = {ALL: ranks}
        if several:
            groups[SEVERAL_BOXES] = several
        for rank, types in zip(ranks, _types(record), strict=True):
            for name in types:
                groups.setdefault(name, []).append(rank)
        for name, group in groups.items():
            self._ranks.add(name, record, np.array(group)[:, None])
        return ranks

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            recall@1, @5, @10, and upper_bound, the recall of all boxes; the same with "/TYPE" for each type
            of phrase, where the data set has types, and with "/several_boxes"; box_recall/several_boxes;
            presence_auc, where some phrases name what the image does not show; num_phrases and
            num_absent_phrases, the numbers of phrases. Empty where no phrase was scored.
        """
        scores: dict[str, float] = {}
        for name, ranks in self._ranks.merged().items():
            if not len(ranks):
                continue
            suffix = "" if name == ALL else f"/{name}"
            for k, recall in recall_at(ranks).items():
                scores[f"recall@{k}{suffix}"] = recall
            scores[f"upper_bound{suffix}"] = float(np.isfinite(ranks).mean())
            if name == ALL:
                scores["num_phrases"] = float(len(ranks))
            if name == SEVERAL_BOXES:
                scores["num_phrases/several_boxes"] = float(len(ranks))

        # Add the figures of phrases with several boxes or none
        _, box_recalls = self._box_recalls.merged()
        if len(box_recalls):
            scores[f"box_recall/{SEVERAL_BOXES}"] = float(box_recalls.mean())
        _, presence = self._presence.merged()
        is_present = presence[:, 1] > 0
        if is_present.any() and not is_present.all():
            scores["presence_auc"] = _area_under_curve(presence[:, 0], is_present)
            scores["num_absent_phrases"] = float((~is_present).sum())
        return scores


def _area_under_curve(scores: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> float:
    """Probability that a positive has a higher score than a negative; equal scores count half.

    Args:
        scores: (n,) scores.
        is_positive: (n,), of both kinds.

    Returns:
        The area under the ROC curve.
    """
    negative = np.sort(scores[~is_positive])
    positive = scores[is_positive]
    lower = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(lower.mean() / (2 * len(negative)))


def _true_boxes(record: Record) -> list[Tensor]:
    """The boxes of each phrase, (N, 4): as annotated, before any merging, where the source has these."""
    annotated = protocol_fields(record).phrase_boxes
    if annotated is not None:
        return [torch.tensor(boxes) for boxes in annotated]
    boxes = torch.tensor(record.boxes)
    return [boxes[list(phrase.box_indices)] for phrase in phrases_of(record)]


def _types(record: Record) -> Sequence[Sequence[str]]:
    types = protocol_fields(record).phrase_types
    return types if types is not None else [()] * len(phrases_of(record))


def phrases_of(record: Record) -> tuple[Phrase, ...]:
    """Phrases of a caption that have a box.

    These are `record.phrases`, or, where it has none, the distinct spans of its boxes: boxes with the same
    spans are the boxes of one phrase. A referring expression (`is_referred` is not None) has none.

    Args:
        record: The caption.

    Returns:
        The phrases, in order.
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


def absent_phrases_of(record: Record) -> tuple[Phrase, ...]:
    """Phrases of a caption that name something that the image does not show, and so have no box.

    Args:
        record: The caption.

    Returns:
        The phrases, in order; none where the record does not list its phrases.
    """
    if record.is_referred is not None or record.phrases is None:
        return ()
    return tuple(phrase for phrase in record.phrases if not phrase.box_indices)


def rank_for_phrase(prediction: Prediction, spans: Spans) -> Detections:
    """All boxes, best first, scored by the probability that each belongs to a phrase of the text.

    Args:
        prediction: Prediction for the text, with Q boxes.
        spans: Characters of the phrase, (start, end) each.

    Returns:
        Q detections.

    Raises:
        InvalidInputError: The prediction is not of a text.
    """
    if prediction.text is None or prediction.token_probabilities is None:
        raise InvalidInputError(
            "Expected predictions with token probabilities, got none; predict for texts, not for class names."
        )
    probabilities = torch.from_numpy(prediction.token_probabilities)
    scores = phrase_scores(probabilities, token_ranges(prediction.text, spans))
    order = scores.argsort(descending=True, stable=True).numpy()
    return replace(prediction.detections[order], scores=scores.numpy()[order])


def phrase_scores(token_probabilities: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """Probability that each query belongs to a phrase: that of the phrase's most likely token.

    Args:
        token_probabilities: (Q, T) probabilities.
        ranges: Tokens of the phrase, (first, last) each, last inclusive.

    Returns:
        (Q,) probabilities, all 0 for a phrase without tokens.
    """
    scores = token_probabilities.new_zeros(len(token_probabilities))
    for first, last in ranges:
        scores = torch.maximum(scores, token_probabilities[:, first : last + 1].amax(1))
    return scores
