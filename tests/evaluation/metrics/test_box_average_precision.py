"""Average precision over all boxes of a text, on cases a person can work out."""

from __future__ import annotations

import sys

import pytest

from mdetr.errors import MissingDependencyError
from mdetr.evaluation.metrics.box_average_precision import AveragePrecisionMetric

TEXT = "a cube and a ball"
CUBE, BALL, NOWHERE = (10, 10, 50, 50), (100, 20, 140, 60), (150, 70, 190, 90)


@pytest.fixture
def caption(make_record):
    return make_record(TEXT, boxes=(CUBE, BALL), spans=(((0, 6),), ((11, 17),)))


def score(output, records) -> dict[str, float]:
    metric = AveragePrecisionMetric()
    metric.update(output, records)
    return metric.compute()


def test_all_boxes_found_and_nothing_else_is_a_precision_of_one(say, caption):
    output = say([TEXT], [[(CUBE, "a cube"), (BALL, "a ball"), (NOWHERE, None)]])
    assert score(output, [caption]) == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0, "num_boxes": 2})


def test_one_of_two_boxes_found_is_about_half(say, caption):
    output = say([TEXT], [[(CUBE, "a cube"), (NOWHERE, None)]])
    assert score(output, [caption])["AP50"] == pytest.approx(
        51 / 101
    )  # recall 0, 0.01, ..., 0.5 of 101 points


def test_words_do_not_matter_and_loose_boxes_count_up_to_their_overlap(say, caption):
    loose = (10, 10, 50, 38)  # IoU 0.7 with the cube
    output = say([TEXT], [[(loose, "a ball"), (BALL, "a cube")]])
    scores = score(output, [caption])
    assert scores["AP50"] == pytest.approx(1.0)
    assert scores["AP75"] < 0.6


def test_a_box_in_a_text_without_boxes_is_a_mistake(say, make_record, caption):
    text = "two blue balls and one red cube"
    surer = [(CUBE, text), (BALL, text)]
    output = say([text, TEXT], [surer, [(CUBE, "a cube"), (NOWHERE, None)]])
    scores = score(output, [make_record(text), caption])
    assert scores["AP50"] == pytest.approx(51 / 101 / 3)  # right in one of three, at half of the recalls


def test_referring_expressions_are_not_scored(say, make_record):
    record = make_record(TEXT, boxes=(CUBE,), spans=((),), is_referred=(True,))
    assert score(say([TEXT], [[(CUBE, "a cube")]]), [record]) == {}


def test_without_the_package_for_it_the_message_says_what_to_install(say, caption, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mdetr\[eval\]'"):
        score(say([TEXT], [[(CUBE, "a cube")]]), [caption])
