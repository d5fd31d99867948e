"""The page and the server run exported models."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mdetr import Mdetr
from mdetr.app.predictor import CachedPredictor
from mdetr.checkpoints.registry import Task
from mdetr.inference.queries import Query
from tests.export.conftest import Exported
from tests.server.conftest import running_server


def test_the_page_predicts_every_task(exported: Exported, images: list[Path]) -> None:
    name = str(exported("openvino", "fp32"))
    predictor = CachedPredictor()
    assert predictor.tasks(name) == tuple(Task)
    for task in Task:
        query = Query(task, names=("cube", "ball")) if task is Task.DETECTION else Query(task, "a red cube")
        result = predictor.predict(name, images[0], query)
        assert (result.picture.width, result.picture.height) == (160, 120)


def test_the_server_answers_like_the_model(exported: Exported, images: list[Path]) -> None:
    folder = exported("onnx", "fp32")
    with running_server("--model", str(folder)) as server:
        form = {"text": "a red cube", "threshold": "0"}
        files = {"image": images[0].read_bytes()}
        answer = httpx.post(f"{server.url}/ground", data=form, files=files, trust_env=False, timeout=90)
    assert answer.status_code == 200, answer.text
    expected = Mdetr.from_pretrained(folder).ground(images[0], "a red cube", threshold=0)
    boxes = [grounding["box"] for grounding in answer.json()["groundings"]]
    assert boxes and boxes == [pytest.approx(list(grounding.box), abs=0.01) for grounding in expected]
