"""Average precision of the boxes of captions, against COCO's and on cases a person can check."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mdetr.evaluation.metrics.average_precision import Boxes
from mdetr.evaluation.metrics.box_average_precision import AveragePrecisionMetric, average_precision
from tests.evaluation.metrics.coco_peer import coco_scores

TEXT = "a cube and a ball"
CUBE, BALL, NOWHERE = (10, 10, 50, 50), (100, 20, 140, 60), (150, 70, 190, 90)


@pytest.fixture
def caption(make_record):
    return make_record(TEXT, boxes=(CUBE, BALL), spans=(((0, 6),), ((11, 17),)))


def score(output, records) -> dict[str, float]:
    metric = AveragePrecisionMetric()
    metric.update(output, records)
    return metric.compute()


def test_precision_is_one_if_all_boxes_are_detected_first(predict, caption):
    output = predict([TEXT], [[(CUBE, "a cube"), (BALL, "a ball"), (NOWHERE, None)]])
    assert score(output, [caption]) == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0, "num_boxes": 2})


def test_precision_is_about_half_if_one_of_two_boxes_is_detected(predict, caption):
    output = predict([TEXT], [[(CUBE, "a cube"), (NOWHERE, None)]])
    assert score(output, [caption])["AP50"] == pytest.approx(
        51 / 101
    )  # recall 0, 0.01, ..., 0.5 of 101 points


def test_words_do_not_matter_and_loose_boxes_count_up_to_their_iou(predict, caption):
    loose = (10, 10, 50, 38)  # IoU 0.7 with the cube
    output = predict([TEXT], [[(loose, "a ball"), (BALL, "a cube")]])
    scores = score(output, [caption])
    assert scores["AP50"] == pytest.approx(1.0)
    assert scores["AP75"] < 0.6


def test_detections_of_a_text_without_boxes_are_wrong(predict, make_record, caption):
    text = "two blue balls and one red cube"
    surer = [(CUBE, text), (BALL, text)]
    output = predict([text, TEXT], [surer, [(CUBE, "a cube"), (NOWHERE, None)]])
    scores = score(output, [make_record(text), caption])
    assert scores["AP50"] == pytest.approx(51 / 101 / 3)  # right in one of three, at half of the recalls


def test_referring_expressions_are_not_scored(predict, make_record):
    record = make_record(TEXT, boxes=(CUBE,), spans=((),), is_referred=(True,))
    assert score(predict([TEXT], [[(CUBE, "a cube")]]), [record]) == {}


def test_only_the_best_hundred_boxes_of_a_text_count():
    truth = np.array([[10, 10, 50, 50]], dtype=np.float32)
    wrong = np.tile(np.array([[100, 20, 140, 60, 0.9]], dtype=np.float32), (100, 1))
    right = np.array([[10, 10, 50, 50, 0.5]], dtype=np.float32)
    key = np.zeros(101, dtype=np.int64)
    within = average_precision(key[:1], truth, key[:100], np.concatenate([wrong[1:], right]))
    beyond = average_precision(key[:1], truth, key, np.concatenate([wrong, right]))
    assert within["AP50"] == pytest.approx(1 / 100)
    assert beyond["AP50"] == 0


@pytest.mark.parametrize("seed", range(12))
def test_random_captions_score_exactly_as_in_coco(seed):
    random = np.random.default_rng(seed)
    texts = random.integers(-(2**62), 2**62, size=8)
    count = int(random.integers(10, 40))

    # True boxes, in whole pixels in every third set, so that equal overlaps occur
    start = random.uniform(0, 300, (count, 2))
    truths = np.concatenate([start, start + random.uniform(3, 300, (count, 2))], 1).astype(np.float32)
    truth_keys = np.sort(texts[random.integers(8, size=count)])

    # Detections near them, up to some 300 a text, with few distinct scores in every other set
    near = np.sort(random.integers(count, size=30 * count))
    noise = random.normal(0, 1, (30 * count, 4)) * random.uniform(0, 20, (30 * count, 1))
    boxes = (truths[near] + noise).astype(np.float32)
    if seed % 3 == 0:
        truths, boxes = truths.round(), boxes.round()
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = random.uniform(size=30 * count) if seed % 2 else random.integers(20, size=30 * count) / 20
    detections = np.column_stack([boxes, scores.astype(np.float32)])
    detection_keys = truth_keys[near]

    expected = coco_scores(
        Boxes(detection_keys, np.ones_like(detection_keys), boxes, detections[:, 4]),
        Boxes(truth_keys, np.ones_like(truth_keys), truths, np.ones(count)),
    )
    scores = average_precision(truth_keys, truths, detection_keys, detections)
    assert scores == {name: expected[name] for name in ("AP", "AP50", "AP75")}
    assert 0.05 < scores["AP"] < 0.95


def test_no_optional_package_is_needed(predict, caption, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert score(predict([TEXT], [[(CUBE, "a cube"), (BALL, "a ball")]]), [caption])["AP"] == 1
