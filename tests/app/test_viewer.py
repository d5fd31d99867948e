"""The viewer's value: words, boxes and messages."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdetr.app.viewer import MAX_SIDE, Candidates, view_result
from mdetr.inference.results import DetectionResult, GroundingResult, ReferringResult, SegmentationResult
from mdetr.processing.detections import Detections

TEXT = "a cat and a dog"
CAT, DOG = ((0, 5),), ((10, 15),)
BOXES = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]


def _detections(**arrays: Any) -> Detections:
    given = {"phrases": ("a cat", "a cat", "a dog"), "spans": (CAT, CAT, DOG)} | arrays
    return Detections(np.array(BOXES, np.float32), np.array([0.9, 0.8, 0.4], np.float32), **given)


def _view(threshold: float, overlap: float, size: tuple[int, int] = (40, 20)) -> dict[str, Any]:
    result = GroundingResult(Image.new("RGB", size), TEXT, _detections())
    return view_result(Candidates.from_result(result), threshold, overlap)


def test_words_list_their_boxes_and_share_their_color() -> None:
    view = _view(0.3, 1.0)
    assert [(word["text"], word["boxes"]) for word in view["words"]] == [
        ("a cat", [0, 1]),
        (" and ", []),
        ("a dog", [2]),
    ]
    cat, _, dog = (word["color"] for word in view["words"])
    assert [box["color"] for box in view["boxes"]] == [cat, cat, dog]
    assert cat != dog


@pytest.mark.parametrize(
    ("threshold", "overlap", "scores"), [(0.3, 1, 3), (0.5, 1, 2), (0.3, 0.8, 2), (0.9, 1, 0)]
)
def test_the_threshold_and_the_overlap_select_boxes(threshold: float, overlap: float, scores: int) -> None:
    assert len(_view(threshold, overlap)["boxes"]) == scores


def test_without_boxes_the_best_score_is_given() -> None:
    view = _view(0.95, 0.7)
    assert view["status"] == "nothing"
    assert view["message"].startswith("No box has a score above 0.95. The best score is 0.90 (“a cat”)")


def test_a_large_image_is_made_smaller_but_boxes_stay_in_its_pixels() -> None:
    view = _view(0.3, 1, size=(4000, 2000))
    header, _, content = view["picture"].partition(",")
    assert header == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (MAX_SIDE, MAX_SIDE // 2)
    assert (view["width"], view["height"]) == (4000, 2000)
    assert view["boxes"][2]["box"] == [20, 0, 30, 10]


def test_the_words_of_a_detection_are_its_class_names() -> None:
    detections = _detections(phrases=None, spans=None, labels=("cat", "cat", "dog"))
    result = DetectionResult(Image.new("RGB", (40, 20)), "dog, cat", detections, ("dog", "cat"))
    view = view_result(Candidates.from_result(result), 0.3, 1)
    assert [(word["text"], word["boxes"]) for word in view["words"]] == [
        ("dog", [2]),
        (", ", []),
        ("cat", [0, 1]),
    ]


def test_an_expression_is_ranked_by_its_referred_score() -> None:
    referred = np.array([0.1, 0.2, 0.3], np.float32)
    result = ReferringResult(Image.new("RGB", (40, 20)), TEXT, _detections(referred_scores=referred)[[2]])
    (box,) = view_result(Candidates.from_result(result), 0.25, 1)["boxes"]
    assert box["score"] == pytest.approx(0.3)
    assert view_result(Candidates.from_result(result), 0.35, 1)["boxes"] == []


def test_masks_are_drawn_where_they_are() -> None:
    masks = np.zeros((3, 20, 40), np.bool_)
    masks[0, 5:10, 5:10] = True
    result = SegmentationResult(Image.new("RGB", (40, 20)), TEXT, _detections(masks=masks))
    view = view_result(Candidates.from_result(result), 0.3, 1)
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(view["mask"].partition(",")[2]))))[..., 3]
    assert np.array_equal(alpha > 0, masks[0])
