"""Evaluation, and training, in two real processes: the same scores as in one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from accelerate import Accelerator
from PIL import Image

from mdetr.data.held_out import ValidationStore
from mdetr.data.sources.lvis import read_lvis
from mdetr.data.store import write_store
from mdetr.evaluation.evaluator import Validation, evaluate
from mdetr.inference.grounder import Mdetr
from mdetr.training.run_folder import last_checkpoint
from tests.processes import MDETR, run_together
from tests.small_training import small_recipe, torchrun


def _log(run: Path) -> list[dict[str, float]]:
    state = json.loads((last_checkpoint(run) / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


@pytest.fixture
def recipe(shapes_store: Path, tmp_path: Path) -> Path:
    content = small_recipe(shapes_store, precision="fp32")
    content["model"]["config"] |= {"alignment_size": 0}  # its negatives depend on the padding of each batch
    content["optimizer"] |= {"steps": 3, "batch_size": 4}
    content["run"] |= {"save_every": 3}
    content["data"]["validation"]["shapes"] |= {"max_images": 7}  # unequal numbers on two processes
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_two_processes_train_and_evaluate_as_one(recipe: Path, tmp_path: Path) -> None:
    run_together(1, MDETR, "train", recipe, "--output", tmp_path / "by1")
    torchrun(2, MDETR, "train", recipe, "--output", tmp_path / "by2")
    one, two = (_log(tmp_path / f"by{count}") for count in (1, 2))
    assert len(one) == 3
    for alone, together in zip(one, two, strict=True):  # the same images make up each step
        for name in ("loss", "grad_norm", "loss_ce", "loss_giou_0"):
            assert together[name] == pytest.approx(alone[name], rel=1e-3), name
    for processes in (1, 2):
        scores, folder = tmp_path / f"scores{processes}.json", tmp_path / f"tables{processes}"
        options = ("--model", tmp_path / "by2" / "model", "--json", scores, "--output", folder)
        run_together(processes, MDETR, "evaluate", recipe, *options)
        assert sorted(path.name for path in folder.iterdir()) == ["shapes-worst.png", "shapes.parquet"]
    alone, together = (json.loads((tmp_path / f"scores{count}.json").read_text()) for count in (1, 2))
    assert together["shapes"] == pytest.approx(alone["shapes"], abs=1e-6)
    alone, together = (pq.read_table(tmp_path / f"tables{count}" / "shapes.parquet") for count in (1, 2))
    for name in ("task", "id", "score", "truth"):
        assert alone[name].to_pylist() == together[name].to_pylist(), name


def test_a_model_keeps_its_mode_and_all_images_are_counted(
    tiny_model_folder: Path, shapes_store: Path
) -> None:
    loaded = Mdetr.from_pretrained(tiny_model_folder, device="cpu")
    loaded.model.train()
    settings = ValidationStore(shapes_store, ["phrase_grounding"], max_images=5)
    validation = Validation.open(settings, loaded.processor)
    done: list[int] = []
    scores = evaluate(loaded.model, validation, 2, Accelerator(cpu=True), done.append)
    assert loaded.model.training
    assert done == [2, 2, 1]
    assert 0 <= scores["phrase_grounding_recall@1"] <= scores["phrase_grounding_upper_bound"] <= 1


def test_every_class_is_detected_in_every_image(tiny_model_folder: Path, tmp_path: Path) -> None:
    fixture = Path(__file__).parents[1] / "fixtures" / "sources" / "lvis" / "raw" / "lvis_v1_train.json"
    content = json.loads(fixture.read_text())
    content["images"] = content["images"][:3]
    numbers = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in numbers]
    file = tmp_path / "lvis_v1_val.json"
    file.write_text(json.dumps(content))
    records = list(read_lvis(file, "val"))
    for record in records:
        path = tmp_path / str(record.image)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((record.height, record.width, 3), np.uint8)).save(path)
    write_store(tmp_path / "store", records, tmp_path)
    loaded = Mdetr.from_pretrained(tiny_model_folder, device="cpu")
    for classes in (None, file):
        settings = ValidationStore(tmp_path / "store", ["detection"], max_images=2, classes=classes)
        done: list[int] = []
        validation = Validation.open(settings, loaded.processor)
        scores = evaluate(loaded.model, validation, 4, Accelerator(cpu=True), done.append)
        assert done == [1, 1]
        assert {"detection_AP", "detection_APr", "detection_fixed_AP"} <= scores.keys()
        assert scores.pop("num_images") == 2
        assert all(-1 <= value <= 1 for value in scores.values())
