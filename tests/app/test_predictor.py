"""Predictions for the page: what is kept in memory, and that nothing is computed twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mdetr import Mdetr
from mdetr.app.predictor import CachedPredictor
from mdetr.checkpoints.registry import Task
from mdetr.errors import InvalidInputError
from mdetr.inference.queries import Query
from tests.app.conftest import DEMO

SCENE = DEMO / "shapes.png"


def _count_images(predictor: CachedPredictor, model: str, counts: list[int]) -> None:
    backbone = predictor.load(model).model.backbone
    backbone.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))


def test_an_image_is_encoded_once_for_all_queries_and_for_copies_of_its_file(tmp_path: Path) -> None:
    predictor, counts = CachedPredictor(), list[int]()
    _count_images(predictor, "clevr-tiny", counts)
    copy = tmp_path / "copy.png"
    shutil.copy(SCENE, copy)
    predictor.predict("clevr-tiny", SCENE, Query(Task.GROUNDING, "a red cube"))
    predictor.predict("clevr-tiny", copy, Query(Task.ANSWERING, "How many balls are there?"))
    predictor.predict("clevr-tiny", SCENE, Query(Task.DETECTION, names=("cube", "ball")))
    assert counts == [1]


def test_the_images_used_least_recently_are_forgotten(tmp_path: Path) -> None:
    predictor, counts = CachedPredictor(max_images=2), list[int]()
    _count_images(predictor, "clevr-tiny", counts)
    for name in ("a", "b", "a", "c", "a", "b"):  # c replaces b
        file = tmp_path / name
        file.write_bytes(SCENE.read_bytes() + name.encode())
        predictor.predict("clevr-tiny", file, Query(Task.GROUNDING, "a red cube"))
    assert len(counts) == 4


def test_candidates_have_any_score_and_are_those_of_the_model() -> None:
    query = Query(Task.GROUNDING, "a red cube and a green ball")
    result = CachedPredictor().predict("clevr-tiny", SCENE, query)
    expected = Mdetr.from_pretrained("clevr-tiny").ground(SCENE, query.text, threshold=0)
    assert result.scores.min() < 0.1
    assert np.allclose(np.sort(result.scores), np.sort(expected.scores), atol=1e-6)


def test_models_support_the_tasks_that_they_have_heads_for() -> None:
    predictor = CachedPredictor()
    assert Task.ANSWERING in predictor.tasks("clevr-tiny")
    assert Task.ANSWERING not in predictor.tasks("photo-tiny")
    with pytest.raises(InvalidInputError, match="clevr-tiny, which comes with the package"):
        predictor.predict("photo-tiny", DEMO / "cat.jpg", Query(Task.ANSWERING, "Is there a cat?"))
