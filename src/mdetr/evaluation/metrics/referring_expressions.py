"""Precision@k of referring expression comprehension."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou, generalized_box_iou

from mdetr.data.record import Record
from mdetr.evaluation.distributed import RecordRows
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.contract import paired
from mdetr.evaluation.metrics.ranking import first_hit, order_by_score, recall_at
from mdetr.processing.coordinates import Box
from mdetr.processing.detections import Grounding
from mdetr.processing.prediction import Prediction

THRESHOLDS = np.linspace(0.5, 0.95, 10, dtype=np.float32)  # of COCO's average precision


class ReferringMetric:
    """Precision@k of referring expression comprehension.

    Scores the records that mark which of their boxes the text denotes (`is_referred`, with one or more true),
    and skips all others. Boxes are ranked by 1 - p(no object), times the probability of being referred to
    where the model has that head.

    Source: arXiv 2104.12763, section 4.2 (RefCOCO, RefCOCO+, RefCOCOg). The published figures threshold the
    generalized IoU at 0.5; the field's definition, IoU, is never lower.
    """

    def __init__(self) -> None:
        # Rank of the first hit by IoU, by generalized IoU, and without the head; IoU of the first box; number
        # of true boxes
        self._rows = RecordRows(columns=5)

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: Predictions for B texts.
            records: The B records of these texts, in order.

        Returns:
            For each referring expression, whether the first box is correct.

        Raises:
            InvalidInputError: The numbers of records and predictions differ.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            truth = referred_boxes(record)
            if not truth:
                continue
            # Rank the boxes with the head for referred boxes, if there is one, and without it
            true_boxes = torch.tensor(truth)
            detections = prediction.detections
            boxes, scores = torch.from_numpy(detections.boxes_xyxy), torch.from_numpy(detections.scores)
            rank_without_head = np.nan
            if detections.referred_scores is not None:
                rank_without_head = first_hit(boxes[order_by_score(scores, boxes)], true_boxes)
                scores = torch.from_numpy(detections.referred_scores)
            order = order_by_score(scores, boxes)
            ranked = boxes[order]

            # Compare them with the true boxes
            rank = first_hit(ranked, true_boxes)
            rank_by_giou = first_hit(ranked, true_boxes, generalized_box_iou)
            best_iou = float(box_iou(ranked[:1], true_boxes).max())
            row = [rank, rank_by_giou, rank_without_head, best_iou, len(truth)]
            self._rows.add(record, np.array([row]))

            # Keep the first box, which is of the whole text
            x0, y0, x1, y1 = ranked[0].tolist()
            spans = ((0, len(record.text)),)
            first = Grounding(record.text, spans, (x0, y0, x1, y1), float(scores[order[0]]))
            example_scores.append(ExampleScore(record, float(rank < 1), (first,)))
        return example_scores

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            precision@1, @5, @10 at IoU 0.5; the same at generalized IoU 0.5 (precision_giou@k), and, where
            the model has the head that scores referred boxes, without it (precision_without_head@k);
            accuracy@0.5:0.95, the fraction of correct first boxes, averaged over these IoU thresholds;
            where some texts denote several objects, precision_of_one@1 of those that denote one (CLEVR-Ref+'s
            accuracy); num_expressions, the number of expressions. Empty where no record was scored.
        """
        _, rows = self._rows.merged()
        if not len(rows):
            return {}
        ranks, ranks_by_giou, ranks_without_head, best_ious, counts = rows.T

        # Precision@k
        protocols = {"precision": ranks, "precision_giou": ranks_by_giou}
        if not np.isnan(ranks_without_head).any():
            protocols["precision_without_head"] = ranks_without_head
        scores: dict[str, float] = {}
        for name, protocol_ranks in protocols.items():
            for k, fraction in recall_at(protocol_ranks).items():
                scores[f"{name}@{k}"] = fraction

        # Other scores of the first box
        scores["accuracy@0.5:0.95"] = float((best_ious[:, None] >= THRESHOLDS).mean())
        if (counts > 1).any() and (counts == 1).any():
            scores["precision_of_one@1"] = recall_at(ranks[counts == 1])[1]
        scores["num_expressions"] = float(len(rows))
        return scores


def referred_boxes(record: Record) -> list[Box]:
    """Boxes that the record's text as a whole denotes.

    Args:
        record: The referring expression.

    Returns:
        The boxes; empty where the record does not mark any.
    """
    if record.is_referred is None:
        return []
    return [box for box, referred in zip(record.boxes, record.is_referred, strict=True) if referred]
