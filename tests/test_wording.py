"""Names of figures where people read them."""

from __future__ import annotations

import pytest

from mdetr.model.answer_space import CLEVR_TYPES, GQA_TYPES
from mdetr.wording import ANSWER_TYPES, curve_in_words, score_in_words, value_in_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("loss_bbox", "coordinates of boxes, L1 (loss_bbox)"),
        ("loss_answer_reg", "answers: number (loss_answer_reg)"),
        ("accuracy_answer_attr", "accuracy of answers: attribute (accuracy_answer_attr)"),
        ("accuracy_answer_total", "accuracy of all answers (accuracy_answer_total)"),
        ("loss_of_a_baseline", "loss_of_a_baseline"),
    ],
)
def test_a_curve_tells_what_it_shows_and_its_name_in_the_log(name: str, words: str) -> None:
    assert curve_in_words(name) == words


def test_types_of_answers_are_spelled_out() -> None:
    assert set(ANSWER_TYPES) == {*CLEVR_TYPES, *GQA_TYPES}
    assert score_in_words("gqa_accuracy/answer_type=rel") == "gqa_accuracy/answer_type=relation"
    assert score_in_words("accuracy/answer_type=my_own") == "accuracy/answer_type=my_own"
    assert score_in_words("mine_recall@1") == "mine_recall@1"


def test_counts_have_no_decimals() -> None:
    assert value_in_words("mine_phrase_grounding_num_phrases", 1234.0) == "1,234"
    assert value_in_words("num_questions", 3.0) == "3"
    assert value_in_words("left_out", 2.0) == "2"
    assert value_in_words("mine_num_phrases_recall@1", 1.0) == "1.0000"
