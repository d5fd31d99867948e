"""Outputs and referring records in, Precision@1, @5 and @10 of the referred box out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou, generalized_box_iou

from mdetr.data.record import Box, Record
from mdetr.model.interface import MdetrOutput
from mdetr.processor import MdetrProcessor
from mdetr.tasks.predictions import predictions_of
from mdetr.tasks.ranking import first_hit, order_by_score, share_within
from mdetr.tasks.rows import RecordRows


class ReferringScorer:
    """Precision@k of referring expression comprehension.

    Scores the records that say which of their boxes the text denotes (`is_referred`, with one or more true),
    and passes over all others. Boxes are ranked by 1 - p(no object), times the probability of being referred
    to where the model has that head.

    Source: arXiv 2104.12763, section 4.2 (RefCOCO, RefCOCO+, RefCOCOg). The published figures threshold the
    generalised IoU at 0.5; the field's definition, IoU, is never lower.
    """

    def __init__(self, processor: MdetrProcessor | None = None) -> None:
        """Args: processor: not needed by this task; taken so that all scorers are made alike."""
        self._places = RecordRows(columns=2)  # by IoU, by generalised IoU

    def update(self, output: MdetrOutput, records: Sequence[Record]) -> None:
        """Score a batch.

        Args:
            output: of the model, for B texts.
            records: the B records of these texts, in order.

        Raises:
            InvalidInputError: there are more or fewer records than texts.
        """
        for record, found in zip(records, predictions_of(output, records), strict=True):
            truth = referred_boxes(record)
            if not truth:
                continue
            scores = found.scores if found.referred_scores is None else found.referred_scores
            ranked = found.boxes[order_by_score(scores, found.boxes)]
            places = [
                first_hit(ranked, torch.tensor(truth), overlap) for overlap in (box_iou, generalized_box_iou)
            ]
            self._places.add(record, np.array([places]))

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            precision@1, @5, @10 at IoU 0.5, and the same at generalised IoU 0.5 (precision_giou@k); nothing
            where no record was scored.
        """
        _, places = self._places.merged()
        if not len(places):
            return {}
        by_iou, by_giou = share_within(places[:, 0]), share_within(places[:, 1])
        return {f"precision@{k}": share for k, share in by_iou.items()} | {
            f"precision_giou@{k}": share for k, share in by_giou.items()
        }


def referred_boxes(record: Record) -> list[Box]:
    """List the boxes that the record's text as a whole denotes; none where the record does not say."""
    if record.is_referred is None:
        return []
    return [box for box, referred in zip(record.boxes, record.is_referred, strict=True) if referred]
