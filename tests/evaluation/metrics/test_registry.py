"""Metrics by the task names of recipes."""

from __future__ import annotations

import pytest

from mdetr.errors import RecipeError
from mdetr.evaluation.metrics import METRICS, make_metric


def test_every_named_task_makes_an_empty_metric():
    assert {
        "phrase_grounding",
        "referring",
        "question_answering",
        "segmentation",
        "average_precision",
    } <= METRICS.keys()
    for task in METRICS:
        assert make_metric(task).compute() == {}


def test_a_misspelled_task_is_refused_with_a_suggestion():
    with pytest.raises(RecipeError, match="did you mean 'phrase_grounding'"):
        make_metric("phrase_groundin")
