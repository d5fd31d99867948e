"""Mask IoU of referring expression segmentation (PhraseCut)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.distributed import GroupedRows
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.contract import paired
from mdetr.processing.prediction import Prediction
from mdetr.processing.rle import decode_masks

ALL = "all"  # the group of all phrases
PRECISIONS = (0.5, 0.7, 0.9)
SMALL, LARGE, MANY = 0.02, 0.2, 5  # shares of the image, and instances, that PhraseCut's subsets are made by


class SegmentationMetric:
    """Mean and cumulative IoU of masks and of boxes, and the share of masks above some IoU.

    Scores the records with masks, and passes over all others. The masks of all queries that are sure enough
    are joined, and so are the true ones; boxes are compared as the pixels that they cover. Subsets are those
    of PhraseCut that its phrases' structure, instances and sizes tell.

    Source: arXiv 2104.12763, section 4.2.2; the metrics are PhraseCut's (arXiv 2008.01187, section 5).
    """

    def __init__(self) -> None:
        self._rows = GroupedRows(columns=4)  # pixels in both and in any: of masks, of boxes

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: of the model, for B texts.
            records: the B records of these texts, in order.

        Returns:
            For each record with masks, the IoU of its mask.

        Raises:
            InvalidInputError: the model predicts no masks, or there are more or fewer records than
                predictions.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            if not record.masks:
                continue
            segments = prediction.segments
            if segments is None or segments.masks is None:
                raise InvalidInputError(
                    "This model predicts no masks; take one that was trained for segmentation."
                )
            joined = torch.from_numpy(segments.masks.any(0))
            overlap = self.score_masks(record, joined, torch.from_numpy(segments.boxes_xyxy))
            example_scores.append(ExampleScore(record, overlap, tuple(segments)))
        return example_scores

    def score_masks(self, record: Record, mask: Tensor, boxes: Tensor) -> float:
        """Score one phrase's mask, (H, W) bool, and boxes, (n, 4) x0, y0, x1, y1; its IoU comes back."""
        size = (record.height, record.width)
        true = decode_masks(record.masks or (), *size).any(0)
        covered, truly_covered = _cover(boxes, size), _cover(torch.tensor(record.boxes), size)
        row = [int(n) for pair in ((mask, true), (covered, truly_covered)) for n in _both_and_any(*pair)]
        for name in [ALL, *_subsets(record, float(true.float().mean()))]:
            self._rows.add(name, record, np.array([row]))
        return row[0] / row[1] if row[1] else 0.0

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            mean_iou, cumulative_iou, precision@0.5, @0.7, @0.9 of masks, box_mean_iou and box_cumulative_iou;
            mean_iou/SUBSET of each subset; num_phrases, of how many. Nothing where no record was scored.
        """
        scores: dict[str, float] = {}
        for name, rows in self._rows.merged().items():
            if not len(rows):
                continue
            ious = rows[:, 0] / rows[:, 1].clip(min=1)
            if name != ALL:
                scores[f"mean_iou/{name}"] = float(ious.mean())
                continue
            of_boxes = rows[:, 2] / rows[:, 3].clip(min=1)
            both, any_, box_both, box_any = rows.sum(0, dtype=np.float64)
            scores |= {"mean_iou": float(ious.mean()), "cumulative_iou": float(both / max(any_, 1))}
            scores |= {f"precision@{least}": float((ious > least).mean()) for least in PRECISIONS}
            scores |= {
                "box_mean_iou": float(of_boxes.mean()),
                "box_cumulative_iou": float(box_both / max(box_any, 1)),
                "num_phrases": float(len(rows)),
            }
        return scores


def _both_and_any(first: Tensor, second: Tensor) -> tuple[int, int]:
    return int((first & second).sum()), int((first | second).sum())


def _cover(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels, (H, W) bool, that any of the boxes covers; corners are rounded."""
    covered = torch.zeros(size, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes.reshape(-1, 4).round().clamp(min=0).int().tolist():
        covered[y0:y1, x0:x1] = True
    return covered


def _subsets(record: Record, share: float) -> list[str]:
    count = len(record.boxes)
    names = ["i_single" if count == 1 else "i_multi"]
    names += ["i_many"] if count >= MANY else []
    names.append("s_small" if share < SMALL else "s_large" if share > LARGE else "s_mid")
    structure = protocol_fields(record).structure
    if structure is None:
        return names
    names += ["p_att"] if structure.has_attributes else []
    names += ["p_rel"] if structure.has_relations else []
    kinds = {"name": "p_name", "attribute": "p_att+", "relation": "p_rel+", "verbose": "p_verbose"}
    return names + ([kinds[structure.kind]] if structure.kind in kinds else [])
