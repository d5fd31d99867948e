"""Referring expressions: which records count, how boxes are ranked, and which are correct."""

from __future__ import annotations

import pytest
import torch

from mdetr.evaluation.metrics.referring_expressions import ReferringMetric

TEXT = "the cube left of the ball"
CUBE, BALL = (10, 10, 50, 50), (100, 20, 140, 60)


@pytest.fixture
def expression(make_record):
    return make_record(TEXT, boxes=(CUBE, BALL), spans=(((0, 8),), ((17, 25),)), is_referred=(True, False))


def score(predictions, records) -> dict[str, float]:
    metric = ReferringMetric()
    metric.update(predictions, records)
    return metric.compute()


def test_the_box_with_the_highest_score_is_the_prediction(predict, expression):
    right = predict([TEXT], [[(CUBE, "the cube"), (BALL, None)]])
    wrong = predict([TEXT], [[(BALL, "the ball"), (CUBE, "the cube")]])
    assert score(right, [expression])["precision@1"] == 1.0
    assert score(wrong, [expression])["precision@1"] == 0.0
    assert score(wrong, [expression])["precision@5"] == 1.0


def test_boxes_are_ranked_by_referred_scores_if_the_model_has_them(predict, expression):
    output = predict([TEXT], [[(BALL, "the ball"), (CUBE, "the cube")]], torch.tensor([[-4.0, 4.0]]))
    assert score(output, [expression])["precision@1"] == 1.0


def test_precision_at_generalized_iou_is_never_the_higher_one(predict, expression):
    half = (10, 10, 34, 46)  # IoU 0.54 with the cube; same as its generalized IoU, since inside
    beside = (2, 14, 42, 54)  # IoU 0.56 with the cube, generalized 0.54; all as wide and high
    for box in (half, beside):
        scores = score(predict([TEXT], [[(box, "the cube")]]), [expression])
        assert scores["precision@1"] == 1.0
        assert scores["precision_giou@1"] <= scores["precision@1"]
    corner = (22, 0, 60, 45)  # IoU 0.42
    assert score(predict([TEXT], [[(corner, "the cube")]]), [expression])["precision@1"] == 0.0


def test_any_of_several_referred_boxes_is_correct(predict, make_record):
    record = make_record(TEXT, boxes=(CUBE, BALL), spans=((), ()), is_referred=(True, True))
    assert score(predict([TEXT], [[(BALL, "the ball")]]), [record])["precision@1"] == 1.0


def test_captions_and_expressions_that_denote_nothing_are_not_scored(predict, make_record):
    caption = make_record(TEXT, boxes=(CUBE,), spans=(((0, 8),),))
    nothing = make_record(TEXT, boxes=(CUBE,), spans=(((0, 8),),), is_referred=(False,))
    assert score(predict([TEXT] * 2, [[(CUBE, "the cube")]] * 2), [caption, nothing]) == {}


def test_scores_are_given_with_and_without_the_head(predict, expression):
    output = predict([TEXT], [[(BALL, "the ball"), (CUBE, "the cube")]], torch.tensor([[-4.0, 4.0]]))
    scores = score(output, [expression])
    assert (scores["precision@1"], scores["precision_without_head@1"]) == (1.0, 0.0)
    assert scores["precision_without_head@5"] == 1.0


def test_accuracy_is_averaged_over_thresholds(predict, expression):
    near = (10, 10, 50, 42)  # IoU 0.8: right at 0.5, 0.55, ..., 0.75, and 0.8 but for rounding
    assert score(predict([TEXT], [[(near, "the cube")]]), [expression])["accuracy@0.5:0.95"] == pytest.approx(
        0.65, abs=0.06
    )
    assert score(predict([TEXT], [[(CUBE, "the cube")]]), [expression])["accuracy@0.5:0.95"] == 1.0


def test_expressions_that_denote_one_object_are_also_scored_separately(predict, expression, make_record):
    several = make_record(TEXT + "s", boxes=(CUBE, BALL), spans=((), ()), is_referred=(True, True))
    output = predict([TEXT, TEXT + "s"], [[(BALL, "the ball")], [(BALL, "the balls")]])
    scores = score(output, [expression, several])
    assert (scores["precision@1"], scores["precision_of_one@1"]) == (0.5, 0.0)


def test_example_scores_hold_the_predicted_box(predict, expression):
    (scored,) = ReferringMetric().update(predict([TEXT], [[(BALL, "the ball")]]), [expression])
    assert scored.score == 0.0
    assert scored.prediction()["boxes"][0]["box"] == pytest.approx(list(BALL))
    assert scored.truth() == {"boxes": [{"phrase": TEXT, "spans": [[0, len(TEXT)]], "box": list(CUBE)}]}
