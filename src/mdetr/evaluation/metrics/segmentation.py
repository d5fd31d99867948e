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
SMALL, LARGE, MANY = 0.02, 0.2, 5  # fractions of the image, and instances, that define PhraseCut's subsets

_SUBSET_OF_KIND = {"name": "p_name", "attribute": "p_att+", "relation": "p_rel+", "verbose": "p_verbose"}


class SegmentationMetric:
    """Mean and cumulative IoU of masks and of boxes, and the fraction of masks above IoU thresholds.

    Scores the records with masks, and skips all others. Compares the union of the predicted masks with that
    of the true ones; boxes are compared as the pixels that they cover. Subsets are those of PhraseCut that
    depend on the structure, instances and sizes of phrases.

    Source: arXiv 2104.12763, section 4.2.2; the metrics are PhraseCut's (arXiv 2008.01187, section 5).
    """

    def __init__(self) -> None:
        self._rows = GroupedRows(columns=4)  # pixels of intersection and union: of masks, of boxes

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: Predictions for B texts.
            records: The B records of these texts, in order.

        Returns:
            For each record with masks, the IoU of its mask.

        Raises:
            InvalidInputError: The model predicts no masks, or the numbers of records and predictions differ.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            if not record.masks:
                continue
            segments = prediction.segments
            if segments is None or segments.masks is None:
                raise InvalidInputError(
                    "Expected a model that predicts masks, got one without; "
                    "choose a model trained for segmentation."
                )
            mask = torch.from_numpy(segments.masks.any(0))
            iou = self.score_masks(record, mask, torch.from_numpy(segments.boxes_xyxy))
            example_scores.append(ExampleScore(record, iou, tuple(segments)))
        return example_scores

    def score_masks(self, record: Record, mask: Tensor, boxes: Tensor) -> float:
        """Score the mask and the boxes of one phrase.

        Args:
            record: The phrase, with its masks and boxes.
            mask: (H, W) bool.
            boxes: (n, 4) x0, y0, x1, y1 in pixels.

        Returns:
            IoU of the mask.
        """
        # Count the pixels of the masks and of the boxes
        true_mask = torch.from_numpy(decode_masks(record.masks or (), record.height, record.width).any(0))
        intersection, union = _intersection_and_union(mask, true_mask)
        covered = _covered_pixels(boxes, record.height, record.width)
        true_covered = _covered_pixels(torch.tensor(record.boxes), record.height, record.width)
        box_intersection, box_union = _intersection_and_union(covered, true_covered)

        # Add them to all phrases and to the phrase's subsets
        row = [intersection, union, box_intersection, box_union]
        for name in (ALL, *_subsets(record, float(true_mask.float().mean()))):
            self._rows.add(name, record, np.array([row]))
        return intersection / union if union else 0.0

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            mean_iou, cumulative_iou, precision@0.5, @0.7, @0.9 of masks, box_mean_iou and box_cumulative_iou;
            mean_iou/SUBSET of each subset; num_phrases, the number of phrases. Empty where no record was
            scored.
        """
        scores: dict[str, float] = {}
        for name, rows in self._rows.merged().items():
            if not len(rows):
                continue
            ious = rows[:, 0] / rows[:, 1].clip(min=1)
            if name != ALL:
                scores[f"mean_iou/{name}"] = float(ious.mean())
                continue

            # Masks
            intersection, union, box_intersection, box_union = rows.sum(0, dtype=np.float64)
            scores["mean_iou"] = float(ious.mean())
            scores["cumulative_iou"] = float(intersection / max(union, 1))
            for threshold in PRECISIONS:
                scores[f"precision@{threshold}"] = float((ious > threshold).mean())

            # Boxes
            box_ious = rows[:, 2] / rows[:, 3].clip(min=1)
            scores["box_mean_iou"] = float(box_ious.mean())
            scores["box_cumulative_iou"] = float(box_intersection / max(box_union, 1))
            scores["num_phrases"] = float(len(rows))
        return scores


def _intersection_and_union(first: Tensor, second: Tensor) -> tuple[int, int]:
    return int((first & second).sum()), int((first | second).sum())


def _covered_pixels(boxes: Tensor, height: int, width: int) -> Tensor:
    """Pixels, (H, W) bool, inside of any of the boxes (n, 4); corners are rounded."""
    covered = torch.zeros(height, width, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes.reshape(-1, 4).round().clamp(min=0).int().tolist():
        covered[y0:y1, x0:x1] = True
    return covered


def _subsets(record: Record, area: float) -> list[str]:
    """PhraseCut's subsets that a phrase belongs to; `area` is its mask's fraction of the image."""
    # Instances
    count = len(record.boxes)
    names = ["i_single" if count == 1 else "i_multi"]
    if count >= MANY:
        names.append("i_many")

    # Size
    if area < SMALL:
        names.append("s_small")
    elif area > LARGE:
        names.append("s_large")
    else:
        names.append("s_mid")

    # Structure of the phrase
    structure = protocol_fields(record).structure
    if structure is None:
        return names
    if structure.has_attributes:
        names.append("p_att")
    if structure.has_relations:
        names.append("p_rel")
    if structure.kind in _SUBSET_OF_KIND:
        names.append(_SUBSET_OF_KIND[structure.kind])
    return names
