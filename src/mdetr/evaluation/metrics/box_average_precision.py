"""Class-agnostic average precision of the boxes of captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_convert

from mdetr.data.record import Record
from mdetr.errors import MissingDependencyError
from mdetr.evaluation.distributed import RecordRows
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.contract import paired
from mdetr.processing.prediction import Prediction


class AveragePrecisionMetric:
    """COCO's average precision of all the boxes of a text, as if they were of one class.

    Scores the records that do not single out a box (`is_referred` is None), also those without boxes, where
    every prediction is wrong; passes over referring expressions. A prediction's score is 1 - p(no object).

    Source: arXiv 2104.12763, section 3 (evaluation during pre-training); the metric is COCO's.
    """

    def __init__(self) -> None:
        self._true = RecordRows(columns=4)  # x0, y0, width, height
        self._found = RecordRows(columns=5)  # the same and the score

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: of the model, for B texts.
            records: the B records of these texts, in order.

        Returns:
            Nothing: the precision is one of all records.

        Raises:
            InvalidInputError: there are more or fewer records than predictions.
        """
        for prediction, record in paired(predictions, records):
            if record.is_referred is not None:
                continue
            true = torch.tensor(record.boxes).reshape(-1, 4)
            self._true.add(record, box_convert(true, "xyxy", "xywh").numpy())
            found = prediction.detections
            boxes = box_convert(torch.from_numpy(found.boxes_xyxy), "xyxy", "xywh")
            self._found.add(record, np.column_stack([boxes.numpy(), found.scores]))
        return []

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            AP (mean over the IoU thresholds 0.5, 0.55, ..., 0.95), AP50 and AP75, between 0 and 1; num_boxes,
            how many were to be found. Nothing where none was.

        Raises:
            MissingDependencyError: faster-coco-eval is not installed.
        """
        true_keys, true = self._true.merged()
        found_keys, found = self._found.merged()
        if not len(true) or not len(found):
            return {}
        scores = average_precision(true_keys, true, found_keys, found)
        return {**scores, "num_boxes": float(len(true))}


def average_precision(
    true_keys: NDArray[np.int64],
    true_boxes: NDArray[np.float32],
    found_keys: NDArray[np.int64],
    found_boxes: NDArray[np.float32],
) -> dict[str, float]:
    """Compute COCO's average precision of boxes of one class.

    Args:
        true_keys: (n,), the text that each true box belongs to.
        true_boxes: (n, 4) x0, y0, width, height in pixels.
        found_keys: (m,), the text that each prediction belongs to.
        found_boxes: (m, 5) x0, y0, width, height in pixels, and the score.

    Returns:
        AP, AP50, AP75.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
    """
    coco, evaluator = _import_coco()
    texts, ids = np.unique(np.concatenate([true_keys, found_keys]), return_inverse=True)
    true_ids, found_ids = ids[: len(true_keys)].tolist(), ids[len(true_keys) :].tolist()
    truth = coco(
        {
            "images": [{"id": i} for i in range(len(texts))],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": [
                {"id": n, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": box, "area": box[2] * box[3]}
                for n, (i, box) in enumerate(zip(true_ids, true_boxes.tolist(), strict=True), start=1)
            ],
        }
    )
    predictions = truth.loadRes(
        [
            {"image_id": i, "category_id": 1, "bbox": row[:4], "score": row[4]}
            for i, row in zip(found_ids, found_boxes.tolist(), strict=True)
        ]
    )
    scoring = evaluator(truth, predictions, "bbox")
    scoring.evaluate()
    scoring.accumulate()
    scoring.summarize()
    return {name: float(scoring.stats[place]) for place, name in enumerate(("AP", "AP50", "AP75"))}


def _import_coco() -> tuple[Any, Any]:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingDependencyError(
            "Average precision needs the package faster-coco-eval: pip install 'mdetr[eval]'."
        ) from error
    return COCO, COCOeval_faster
