"""Class-agnostic average precision of the boxes of captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdetr.data.record import Record
from mdetr.evaluation.distributed import RecordRows
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.average_precision import (
    Boxes,
    EvaluatedPairs,
    best_per_group,
    detection_average_precision,
)
from mdetr.evaluation.metrics.contract import paired
from mdetr.processing.prediction import Prediction

PER_TEXT = 100  # detections that COCO's metric looks at


class AveragePrecisionMetric:
    """COCO's average precision of all boxes of a text, as if they were of one class.

    Scores the records that do not single out a box (`is_referred` is None), including those without boxes,
    where every prediction is wrong; skips referring expressions. A prediction's score is 1 - p(no object).

    Source: arXiv 2104.12763, section 3 (evaluation during pre-training); the metric is COCO's.
    """

    def __init__(self) -> None:
        self._truths = RecordRows(columns=4)  # x0, y0, x1, y1
        self._detections = RecordRows(columns=5)  # x0, y0, x1, y1, score

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Add a batch.

        Args:
            predictions: Predictions for B texts.
            records: The B records of these texts, in order.

        Returns:
            An empty list: the precision is one of all records.

        Raises:
            InvalidInputError: The numbers of records and predictions differ.
        """
        for prediction, record in paired(predictions, records):
            if record.is_referred is not None:
                continue
            detections = prediction.detections
            self._truths.add(record, np.array(record.boxes, dtype=np.float32).reshape(-1, 4))
            self._detections.add(record, np.column_stack([detections.boxes_xyxy, detections.scores]))
        return []

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            AP (mean over the IoU thresholds 0.5, 0.55, ..., 0.95), AP50 and AP75, between 0 and 1; num_boxes,
            the number of true boxes. Empty without true boxes or without predictions.
        """
        truth_keys, truths = self._truths.merged()
        detection_keys, detections = self._detections.merged()
        if not len(truths) or not len(detections):
            return {}
        scores = average_precision(truth_keys, truths, detection_keys, detections)
        return {**scores, "num_boxes": float(len(truths))}


def average_precision(
    truth_keys: NDArray[np.int64],
    truths: NDArray[np.float32],
    detection_keys: NDArray[np.int64],
    detections: NDArray[np.float32],
) -> dict[str, float]:
    """COCO's average precision of boxes of one class, over the best 100 detections of each text.

    Args:
        truth_keys: (n,) text of each true box.
        truths: (n, 4) x0, y0, x1, y1 in pixels.
        detection_keys: (m,) text of each detection.
        detections: (m, 5) x0, y0, x1, y1 in pixels, and the score.

    Returns:
        AP, AP50, AP75.
    """
    # Keep the best detections of each text
    best = best_per_group(detection_keys, detections[:, 4], PER_TEXT)
    detection_keys, detections = detection_keys[best], detections[best]

    # Make every box one of a single class, which is annotated exhaustively in every text
    texts = np.unique(np.concatenate([truth_keys, detection_keys]))
    areas = np.prod(truths[:, 2:] - truths[:, :2], axis=1)
    scores = detection_average_precision(
        Boxes(detection_keys, np.zeros_like(detection_keys), detections[:, :4], detections[:, 4]),
        Boxes(truth_keys, np.zeros_like(truth_keys), truths, areas),
        EvaluatedPairs(texts, np.zeros_like(texts), np.ones(len(texts), dtype=bool)),
        frequencies={},
    )
    return {name: scores[name] for name in ("AP", "AP50", "AP75")}
