"""Boxes as arrays, compared with the functions of torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, box_convert, box_iou

from mdetr.processing.boxes import pairwise_iou, suppress_overlapping, to_corners


def _boxes(count: int, seed: int = 0) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    corners = numbers.uniform(0, 200, (count, 2))
    return np.concatenate((corners, corners + numbers.uniform(0, 80, (count, 2))), 1).astype(np.float32)


def test_corners_are_half_a_side_from_the_center() -> None:
    boxes = np.random.default_rng(0).random((2, 5, 4), np.float32)
    expected = box_convert(torch.from_numpy(boxes), "cxcywh", "xyxy")
    np.testing.assert_allclose(to_corners(boxes), expected, atol=1e-7)


def test_overlaps_are_those_of_torchvision_and_boxes_without_an_area_have_none() -> None:
    a, b = _boxes(40), _boxes(60, 1)
    expected = box_iou(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(pairwise_iou(a, b), expected, atol=1e-6)
    point = np.array([[5, 5, 5, 5]], np.float32)
    assert pairwise_iou(point, point).tolist() == [[0]]
    assert pairwise_iou(a[:0], b).shape == (0, 60)


@pytest.mark.parametrize("count", [0, 1, 100, 1000])  # the last takes several blocks
@pytest.mark.parametrize("num_names", [1, 7])
@pytest.mark.parametrize("max_overlap", [0.0, 0.3, 0.7, 1.0])
def test_the_boxes_that_torchvision_keeps_are_kept_best_first(
    count: int, num_names: int, max_overlap: float
) -> None:
    numbers = np.random.default_rng(count)
    boxes = _boxes(count)
    scores = numbers.permutation(count).astype(np.float32)
    classes = numbers.integers(0, num_names, count)
    names = [f"class {number}" for number in classes]
    tensors = (torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes))
    expected = batched_nms(*tensors, max_overlap)
    assert suppress_overlapping(boxes, scores, names, max_overlap).tolist() == expected.tolist()


def test_of_equal_scores_the_first_box_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    assert suppress_overlapping(boxes, np.ones(3, np.float32), ["a", "b", "a"], 0.5).tolist() == [0, 1]
