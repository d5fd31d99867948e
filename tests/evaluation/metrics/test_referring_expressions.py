"""Referring expressions: which records count, how boxes are ranked, what is right."""

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


def test_the_surest_box_is_the_answer(say, expression):
    right = say([TEXT], [[(CUBE, "the cube"), (BALL, None)]])
    wrong = say([TEXT], [[(BALL, "the ball"), (CUBE, "the cube")]])
    assert score(right, [expression])["precision@1"] == 1.0
    assert score(wrong, [expression])["precision@1"] == 0.0
    assert score(wrong, [expression])["precision@5"] == 1.0


def test_a_model_that_says_which_box_is_referred_to_is_ranked_by_that_too(say, expression):
    output = say([TEXT], [[(BALL, "the ball"), (CUBE, "the cube")]], torch.tensor([[-4.0, 4.0]]))
    assert score(output, [expression])["precision@1"] == 1.0


def test_precision_at_generalized_iou_is_never_the_higher_one(say, expression):
    half = (10, 10, 34, 46)  # IoU 0.54 with the cube; same as its generalized IoU, since inside
    beside = (2, 14, 42, 54)  # IoU 0.56 with the cube, generalized 0.54; all as wide and high
    for box in (half, beside):
        scores = score(say([TEXT], [[(box, "the cube")]]), [expression])
        assert scores["precision@1"] == 1.0
        assert scores["precision_giou@1"] <= scores["precision@1"]
    corner = (22, 0, 60, 45)  # IoU 0.42
    assert score(say([TEXT], [[(corner, "the cube")]]), [expression])["precision@1"] == 0.0


def test_any_of_several_referred_boxes_is_right(say, make_record):
    record = make_record(TEXT, boxes=(CUBE, BALL), spans=((), ()), is_referred=(True, True))
    assert score(say([TEXT], [[(BALL, "the ball")]]), [record])["precision@1"] == 1.0


def test_captions_and_expressions_that_denote_nothing_are_not_scored(say, make_record):
    caption = make_record(TEXT, boxes=(CUBE,), spans=(((0, 8),),))
    nothing = make_record(TEXT, boxes=(CUBE,), spans=(((0, 8),),), is_referred=(False,))
    assert score(say([TEXT] * 2, [[(CUBE, "the cube")]] * 2), [caption, nothing]) == {}


def test_the_head_and_its_absence_are_both_told(say, expression):
    output = say([TEXT], [[(BALL, "the ball"), (CUBE, "the cube")]], torch.tensor([[-4.0, 4.0]]))
    scores = score(output, [expression])
    assert (scores["precision@1"], scores["precision_without_head@1"]) == (1.0, 0.0)
    assert scores["precision_without_head@5"] == 1.0


def test_accuracy_is_averaged_over_thresholds(say, expression):
    near = (10, 10, 50, 42)  # IoU 0.8: right at 0.5, 0.55, ..., 0.75, and 0.8 but for rounding
    assert score(say([TEXT], [[(near, "the cube")]]), [expression])["accuracy@0.5:0.95"] == pytest.approx(
        0.65, abs=0.06
    )
    assert score(say([TEXT], [[(CUBE, "the cube")]]), [expression])["accuracy@0.5:0.95"] == 1.0


def test_expressions_that_denote_one_thing_are_also_told_alone(say, expression, make_record):
    several = make_record(TEXT + "s", boxes=(CUBE, BALL), spans=((), ()), is_referred=(True, True))
    output = say([TEXT, TEXT + "s"], [[(BALL, "the ball")], [(BALL, "the balls")]])
    scores = score(output, [expression, several])
    assert (scores["precision@1"], scores["precision_of_one@1"]) == (0.5, 0.0)


def test_what_is_scored_can_be_shown(say, expression):
    (scored,) = ReferringMetric().update(say([TEXT], [[(BALL, "the ball")]]), [expression])
    assert scored.score == 0.0
    assert scored.prediction()["boxes"][0]["box"] == pytest.approx(list(BALL))
    assert scored.truth() == {"boxes": [{"phrase": TEXT, "spans": [[0, len(TEXT)]], "box": list(CUBE)}]}
