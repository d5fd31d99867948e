"""Question answering: accuracy by type, GQA's other scores, and questions with unknown answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import distributed, multiprocessing

from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.metrics.question_answering import QuestionAnsweringMetric
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction

WORDS = ["yes", "no", "red", "blue"]


def _question(id: str, answer: str | None, answer_type: str | None = "attr", **facts: Any) -> Record:
    kind = None if answer is None else answer_type
    names = {
        "source": "gqa",
        "split": "val",
        "id": id,
        "image": "a.png",
        "image_id": "1",
        "text": "what is it?",
    }
    return Record(
        **names,
        width=9,
        height=9,
        answer=answer,
        answer_type=kind,
        extra=json.dumps({"questionId": id} | facts),
    )


def _predict(*answers: str | None) -> list[Prediction]:
    nothing = Detections(np.empty((0, 4)), np.empty(0))
    return [Prediction(nothing, answer=answer) for answer in answers]


def test_accuracy_of_all_questions_and_by_type() -> None:
    metric = QuestionAnsweringMetric()
    records = [
        _question("1", "yes", "binary", question_type="exist"),
        _question("2", "no", "binary", question_type="exist"),
        _question("3", "red", question_type="query attribute"),
        _question("4", None),
    ]
    example_scores = metric.update(_predict("yes", "yes", "red", "blue"), records)
    assert [(scored.record.id, scored.answer) for scored in example_scores] == [
        ("1", "yes"),
        ("2", "yes"),
        ("3", "red"),
        ("4", "blue"),
    ]
    assert [scored.score for scored in example_scores[:3]] == [1, 0, 1]
    assert math.isnan(example_scores[3].score)
    assert metric.compute() == pytest.approx(
        {
            "accuracy": 2 / 3,
            "num_questions": 3,
            "accuracy/answer_type=attr": 1,
            "accuracy/answer_type=binary": 0.5,
            "accuracy/question_type=exist": 0.5,
            "accuracy/question_type=query attribute": 1,
        }
    )


def test_captions_are_skipped() -> None:
    metric = QuestionAnsweringMetric()
    caption = Record("made-up", "val", "1", "a.png", "1", 9, 9, "a cat")
    assert metric.update(_predict("yes"), [caption]) == []
    assert metric.compute() == {}


def test_a_model_without_answers_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Expected a model that predicts answers"):
        QuestionAnsweringMetric().update(_predict(None), [_question("1", "yes")])


def test_gqas_other_scores() -> None:
    """Worked out by hand from the definitions (arXiv 1902.09506, section 4.4)."""
    metric = QuestionAnsweringMetric()
    color = {"group": "color", "valid": ["red", "blue"], "plausible": ["red"]}
    records = [
        _question("a", "red", entailed=["a", "b", "c"], **color),
        _question("b", "yes", entailed=["b", "a"], structural="verify"),
        _question("c", "no", entailed=["c", "b", "missing"], structural="verify"),
        _question("d", "blue", **color),
        _question("e", "blue", group="paint"),
    ]
    # right: a, b, d; wrong: c, e
    metric.update(_predict("red", "yes", "yes", "blue", "red"), records)
    scores = metric.compute()
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["accuracy/structural=verify"] == pytest.approx(1 / 2)
    assert (scores["validity"], scores["plausibility"]) == (1, 0.5)
    assert scores["consistency"] == pytest.approx(((1 + 0) / 2 + 1) / 2)  # of a: b, c; of b: a
    # color: red 1 of 1, blue 1 of 1 -> 0; paint: blue expected once, given never -> 1; weighted by 2 and 1
    assert scores["distribution"] == pytest.approx((0 * 2 + 1 * 1) / 3)


def _answer(metric: QuestionAnsweringMetric, numbers: range) -> dict[str, float]:
    for number in numbers:
        truth, answer = WORDS[number % 4], WORDS[(number * number) % 4]
        facts = {
            "entailed": [str(number + 1), str(number)],
            "group": f"group {number % 2}",
            "valid": WORDS[:2],
        }
        record = _question(str(number), truth, "binary" if number % 4 < 2 else "attr", **facts)
        metric.score_answer(record, answer)
    return metric.compute()


def test_two_processes_give_what_one_would(tmp_path: Path) -> None:
    alone = _answer(QuestionAnsweringMetric(), range(9))
    assert len(alone) == 7
    assert alone["num_questions"] == 9
    (tmp_path / "alone.json").write_text(json.dumps(alone))
    multiprocessing.start_processes(_check_merge, (str(tmp_path),), nprocs=2, start_method="fork")


def _check_merge(rank: int, folder: str) -> None:
    alone = json.loads((Path(folder) / "alone.json").read_text())
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for indices in ((range(0, 9, 2), range(1, 9, 2)), (range(0), range(9))):
        together = _answer(QuestionAnsweringMetric(), indices[rank])
        assert together.keys() == alone.keys()
        np.testing.assert_allclose(list(together.values()), list(alone.values()), rtol=1e-6)
    distributed.destroy_process_group()
