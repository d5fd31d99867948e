"""Submission files for the test servers of GQA and CLEVR."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdetr.errors import InvalidInputError
from mdetr.evaluation.submissions import write_submission


def test_gqa_gets_a_list_of_questions_and_predictions(tmp_path: Path) -> None:
    write_submission({"20": "yes", "100": "red"}, tmp_path / "answers.json")
    assert json.loads((tmp_path / "answers.json").read_text()) == [
        {"questionId": "100", "prediction": "red"},
        {"questionId": "20", "prediction": "yes"},
    ]


def test_clevr_gets_a_line_per_question_in_order(tmp_path: Path) -> None:
    write_submission({"question-10": "yes", "question-9": "3"}, tmp_path / "answers.txt")
    assert (tmp_path / "answers.txt").read_text() == "3\nyes\n"


def test_answers_that_cannot_be_submitted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Expected questions to answer, got none"):
        write_submission({}, tmp_path / "answers.json")
    with pytest.raises(InvalidInputError, match=r"Expected a \.json file"):
        write_submission({"1": "yes"}, tmp_path / "answers.csv")
    with pytest.raises(InvalidInputError, match="got 'first'"):
        write_submission({"first": "yes"}, tmp_path / "answers.txt")
    assert list(tmp_path.iterdir()) == []
