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
from mdetr.evaluation.metrics.ranking import first_hit, order_by_score, share_within
from mdetr.processing.coordinates import Box
from mdetr.processing.detections import Grounding
from mdetr.processing.prediction import Prediction

THRESHOLDS = np.linspace(0.5, 0.95, 10, dtype=np.float32)  # of COCO's average precision


class ReferringMetric:
    """Precision@k of referring expression comprehension.

    Scores the records that say which of their boxes the text denotes (`is_referred`, with one or more true),
    and passes over all others. Boxes are ranked by 1 - p(no object), times the probability of being referred
    to where the model has that head.

    Source: arXiv 2104.12763, section 4.2 (RefCOCO, RefCOCO+, RefCOCOg). The published figures threshold the
    generalized IoU at 0.5; the field's definition, IoU, is never lower.
    """

    def __init__(self) -> None:
        self._places = RecordRows(columns=5)  # by IoU, by generalized IoU, without the head, best IoU, boxes

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: of the model, for B texts.
            records: the B records of these texts, in order.

        Returns:
            For each referring expression, whether the first box is right.

        Raises:
            InvalidInputError: there are more or fewer records than predictions.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            truth = referred_boxes(record)
            if not truth:
                continue
            true_boxes = torch.tensor(truth)
            found = prediction.detections
            boxes, plain_scores = torch.from_numpy(found.boxes_xyxy), torch.from_numpy(found.scores)
            has_head = found.referred_scores is not None
            scores = plain_scores if not has_head else torch.from_numpy(found.referred_scores)
            plain = boxes[order_by_score(plain_scores, boxes)]
            order = order_by_score(scores, boxes)
            ranked = boxes[order]
            hits = [first_hit(ranked, true_boxes, overlap) for overlap in (box_iou, generalized_box_iou)]
            without = first_hit(plain, true_boxes) if has_head else np.nan
            best = float(box_iou(ranked[:1], true_boxes).max())
            self._places.add(record, np.array([[*hits, without, best, len(truth)]]))
            x0, y0, x1, y1 = ranked[0].tolist()
            whole = ((0, len(record.text)),)
            said = Grounding(record.text, whole, (x0, y0, x1, y1), float(scores[order[0]]))
            example_scores.append(ExampleScore(record, float(hits[0] < 1), (said,)))
        return example_scores

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            precision@1, @5, @10 at IoU 0.5; the same at generalized IoU 0.5 (precision_giou@k), and, where
            the model has the head that says which boxes are referred to, without it
            (precision_without_head@k); accuracy@0.5:0.95, the share of right first boxes, averaged over these
            IoU thresholds; and, where some texts denote several things, precision_of_one@1 of those that
            denote one (CLEVR-Ref+'s accuracy); num_expressions, of how many. Nothing where no record was
            scored.
        """
        _, rows = self._places.merged()
        if not len(rows):
            return {}
        by_iou, by_giou, without, best, counts = rows.T
        scores = {f"precision@{k}": share for k, share in share_within(by_iou).items()}
        scores |= {f"precision_giou@{k}": share for k, share in share_within(by_giou).items()}
        if not np.isnan(without).any():
            scores |= {f"precision_without_head@{k}": share for k, share in share_within(without).items()}
        scores["accuracy@0.5:0.95"] = float((best[:, None] >= THRESHOLDS).mean())
        if (counts > 1).any() and (counts == 1).any():
            scores["precision_of_one@1"] = share_within(by_iou[counts == 1])[1]
        scores["num_expressions"] = float(len(rows))
        return scores


def referred_boxes(record: Record) -> list[Box]:
    """List the boxes that the record's text as a whole denotes; none where the record does not say."""
    if record.is_referred is None:
        return []
    return [box for box, referred in zip(record.boxes, record.is_referred, strict=True) if referred]
