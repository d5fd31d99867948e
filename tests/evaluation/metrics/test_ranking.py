"""Recall and precision of ranked boxes, against the released program's and on cases a person can check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou

from mdetr.evaluation.metrics.ranking import enclosing_box, first_hit, order_by_score, recall_at

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tasks"


@pytest.mark.parametrize("protocol", ["any_box", "merged_boxes"])
def test_recall_of_phrases_is_that_of_the_released_program(protocol):
    arrays = {k: torch.from_numpy(v) for k, v in np.load(FIXTURES / "flickr30k.npz").items()}
    expected = json.loads((FIXTURES / "flickr30k.json").read_text())[protocol]
    truths = arrays["true_boxes"].split(arrays["true_counts"].tolist())
    if protocol == "merged_boxes":
        truths = [enclosing_box(truth) for truth in truths]
    pairs = zip(arrays[protocol], truths, strict=True)
    ranks = np.array([first_hit(ranked, truth) for ranked, truth in pairs])
    recalls = {f"recall@{k}": recall for k, recall in recall_at(ranks).items()}
    assert recalls | {"upper_bound": np.isfinite(ranks).mean()} == pytest.approx(expected)


@pytest.mark.parametrize("dataset", ["refcoco", "refcoco+", "refcocog"])
def test_precision_of_expressions_is_that_of_the_released_program_by_generalized_iou(dataset):
    arrays = np.load(FIXTURES / "refexp.npz")
    expected = json.loads((FIXTURES / "refexp.json").read_text())[dataset]
    is_of_dataset = arrays["dataset"] == dataset
    scores, boxes, truths = (
        torch.from_numpy(arrays[k][is_of_dataset]) for k in ("scores", "boxes", "true_boxes")
    )
    ranked = [b[order_by_score(s, b)] for s, b in zip(scores, boxes, strict=True)]

    def precisions(overlap):
        pairs = zip(ranked, truths, strict=True)
        return list(recall_at(np.array([first_hit(r, t[None], overlap) for r, t in pairs])).values())

    assert precisions(generalized_box_iou) == pytest.approx(expected)
    assert all(ours >= theirs for ours, theirs in zip(precisions(box_iou), expected, strict=True))


def test_the_first_hit_is_the_rank_of_the_first_box_that_overlaps_any_true_box_by_half():
    ranked = torch.tensor([[0.0, 0, 4, 10], [50, 50, 60, 55], [0, 0, 10, 10]])
    truths = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    assert first_hit(ranked, truths) == 1  # IoU is exactly one half
    assert first_hit(ranked, truths[:1]) == 2
    assert first_hit(ranked[:2], truths[:1]) == float("inf")


def test_equal_scores_are_ordered_by_coordinates_descending():
    boxes = torch.tensor([[1.0, 2, 3, 4], [5, 0, 9, 9], [1, 2, 3, 7], [0, 0, 1, 1]])
    scores = torch.tensor([0.5, 0.5, 0.5, 0.9])
    assert order_by_score(scores, boxes).tolist() == [3, 1, 2, 0]
