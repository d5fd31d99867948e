"""The page, the server, the evaluation and the labeling run exported models."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import torch

from mdetr import Mdetr
from mdetr.app.predictor import CachedPredictor
from mdetr.checkpoints.registry import Task
from mdetr.cli.evaluate import _load, _Model
from mdetr.cli.main import main
from mdetr.cli.options import Precision
from mdetr.evaluation import evaluator
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


def test_an_evaluation_on_a_machine_with_a_gpu_leaves_an_exported_model_on_the_cpu(
    exported: Exported,
) -> None:
    settings = _Model(str(exported("onnx", "fp32")), torch.device("cuda"), Precision.FLOAT32)
    model, _, evaluate = _load(settings)
    assert str(model.device) == "cpu" and evaluate is evaluator.evaluate


def test_a_store_is_scored_and_a_folder_is_labeled_on_the_command_line(
    exported: Exported, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = exported("openvino", "fp32")
    line = {"image": str(images[0]), "text": "a ball", "boxes": [[9, 7, 80, 60]], "phrases": ["a ball"]}
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps(line))
    store = f"store: {data}, images: {images[0].parent}"
    changes = ("--set", f"data.train=[{{{store}}}]")
    changes += ("--set", f"data.validation={{mine: {{{store}, tasks: [phrase_grounding]}}}}")
    written, output = tmp_path / "scores.json", tmp_path / "evaluation"
    options = ("--model", str(model), "--json", str(written), "--output", str(output), "--worst", "0")
    assert main(["evaluate", "clevr-tiny", *changes, *options]) == 0, capsys.readouterr().err
    assert json.loads(written.read_text())["mine"]["num_images"] == 1

    labels = tmp_path / "labels"
    options = ("--classes", "ball, cube", "--to", "coco", "--model", str(model), "--threshold", "0")
    assert main(["label", str(images[0].parent), str(labels), *options]) == 0, capsys.readouterr().err
    assert any(labels.rglob("*.json"))
