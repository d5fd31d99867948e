"""Detections: arrays of one length, read row by row, selected, and handed to other tools."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.processing.detections import Detections, Grounding


@pytest.fixture
def three() -> Detections:
    """A cube, a ball and another cube in "a cube and a ball" of 6 x 4 pixels, with masks."""
    masks = np.zeros((3, 4, 6), bool)
    masks[0, 1:3, 2] = masks[1, 0] = masks[2, :, 5] = True
    return Detections(
        np.array([[2, 1, 3, 3], [0, 0, 6, 1], [5, 0, 6, 4]]),
        np.array([0.75, 0.5, 0.25]),
        phrases=("a cube", "a ball", "a cube"),
        spans=(((0, 6),), ((11, 17),), ((0, 6),)),
        masks=masks,
        referred_scores=np.array([0.5, 0.125, 0.0625]),
    )


def test_a_row_has_the_words_the_box_and_the_score_of_one_thing(three: Detections) -> None:
    assert len(three) == 3
    assert three[1] == Grounding("a ball", ((11, 17),), (0.0, 0.0, 6.0, 1.0), 0.5)
    assert three[-1].box == (5, 0, 6, 4)
    assert [row.score for row in three] == [0.75, 0.5, 0.25]
    assert repr(three) == "Detections(3: 'a cube' 0.75, 'a ball' 0.50, 'a cube' 0.25)"
    with pytest.raises(IndexError):
        three[3]


@pytest.mark.parametrize("index", [slice(0, 3, 2), [True, False, True], [0, 2], np.array([0, 2])])
def test_a_slice_a_mask_and_places_select_from_every_array(three: Detections, index: object) -> None:
    cubes = three[index]  # type: ignore[call-overload]
    assert cubes.boxes_xyxy.tolist() == [[2, 1, 3, 3], [5, 0, 6, 4]]
    assert cubes.boxes_xyxy.dtype == cubes.scores.dtype == np.float32
    assert cubes.scores.tolist() == [0.75, 0.25]
    assert cubes.phrases == ("a cube", "a cube")
    assert cubes.spans == (((0, 6),), ((0, 6),))
    assert cubes.masks.sum((1, 2)).tolist() == [2, 4]  # type: ignore[union-attr]
    assert cubes.referred_scores.tolist() == [0.5, 0.0625]  # type: ignore[union-attr]


def test_what_is_above_a_score_is_selected_by_comparing(three: Detections) -> None:
    assert three[three.scores > 0.4].phrases == ("a cube", "a ball")
    assert len(three[three.scores > 0.9]) == 0
    assert three[three.scores > 0.9].boxes_xyxy.shape == (0, 4)


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="same length in Detections, got boxes_xyxy 1, scores 2"):
        Detections(np.zeros((1, 4)), np.zeros(2))


def test_the_arrays_are_json(three: Detections) -> None:
    content = json.loads(json.dumps(three[:2].to_dict()))
    assert content["boxes_xyxy"] == [[2, 1, 3, 3], [0, 0, 6, 1]]
    assert content["spans"] == [[[0, 6]], [[11, 17]]]
    # Down the columns of 4: two and a pixel are empty, two pixels are set, the rest is empty.
    assert content["masks"][0] == {"size": [4, 6], "counts": [9, 2, 13]}
    assert "labels" not in content


def test_coco_results_have_corners_and_sizes_and_numbered_names(three: Detections) -> None:
    from faster_coco_eval.core import mask as rle

    first, second, third = three.to_coco(image_id=42)
    assert (first["image_id"], first["bbox"], first["score"]) == (42, [2, 1, 1, 2], 0.75)
    assert [entry["category_id"] for entry in (first, second, third)] == [1, 2, 1]
    assert np.array_equal(rle.decode(third["segmentation"]), three.masks[2])  # type: ignore[index]
    assert three.to_coco(categories={"a cube": 5, "a ball": 9})[1]["category_id"] == 9
    with pytest.raises(InvalidInputError, match="no category for 'a ball'"):
        three.to_coco(categories={"a cube": 5})
    assert three[:0].to_coco() == []


def test_a_table_has_a_row_for_each_thing(three: Detections) -> None:
    table = three.to_pandas()
    assert list(table.columns) == ["phrase", "score", "x0", "y0", "x1", "y1", "spans", "referred_score"]
    assert table[table.phrase == "a cube"].x1.tolist() == [3, 6]
    labeled = Detections(three.boxes_xyxy, three.scores, labels=("cat", "dog", "cat")).to_pandas()
    assert labeled.groupby("label").score.max().to_dict() == {"cat": 0.75, "dog": 0.5}


def test_supervision_gets_boxes_masks_scores_and_class_names(three: Detections) -> None:
    import supervision

    given = three.to_supervision()
    assert isinstance(given, supervision.Detections)
    assert given.xyxy.tolist() == three.boxes_xyxy.tolist()
    assert given.class_id.tolist() == [0, 1, 0]
    assert given.data["class_name"].tolist() == ["a cube", "a ball", "a cube"]
    assert given[given.confidence > 0.4].mask.sum() == 8
    assert three.to_supervision(["a ball", "a cube"]).class_id.tolist() == [1, 0, 1]
    assert len(three[:0].to_supervision()) == 0
    with pytest.raises(InvalidInputError, match="'a ball' is not among the classes"):
        three.to_supervision(["a cube"])


@pytest.mark.parametrize("package", ["supervision", "pandas"])
def test_a_tool_that_is_not_installed_is_named(
    three: Detections, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what `import` takes for a package that is missing
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        getattr(three, f"to_{package}")()


def test_no_places_give_no_things() -> None:
    none = Detections(np.ones((3, 4)), np.ones(3), labels=("a", "b", "c"))[[]]
    assert (len(none), none.labels, none.boxes_xyxy.shape) == (0, (), (0, 4))


def test_boxes_that_overlap_a_better_one_of_the_same_name_are_removed() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10], [20, 0, 30, 10]]
    detections = Detections(
        np.array(boxes, np.float32),
        np.array([0.5, 0.9, 0.4, 0.3], np.float32),
        labels=("cat", "cat", "dog", "cat"),
    )
    assert detections.with_nms(0.7).scores.tolist() == pytest.approx([0.9, 0.4, 0.3])  # IoU 0.8
    assert detections.with_nms(0.85).scores.tolist() == pytest.approx([0.9, 0.5, 0.4, 0.3])
    assert len(detections[:0].with_nms(0.5)) == 0


def test_suppression_across_names_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]
    detections = Detections(np.array(boxes), np.array([0.8, 0.9, 0.7]), labels=("cat", "dog", "cat"))
    assert detections.with_nms(0.7).labels == ("dog", "cat", "cat")
    assert detections.with_nms(0.7, across_names=True).labels == ("dog", "cat")
