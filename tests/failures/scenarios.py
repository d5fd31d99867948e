"""Commands that write for long, what continues each after a failure, and the result that both must give."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import Store, write_store
from mdetr.training.run_folder import LOCK_FILE, complete_checkpoints
from tests.small_training import SCENES, small_recipe

_TIMES = ("images_per_second", "data_wait", "train_runtime")  # of a log's entries; no two runs share them

_LOADED = {
    "config.json": ("dtype",),
    "tokenizer_config.json": (
        *("is_local", "local_files_only", "max_length"),
        *("pad_to_multiple_of", "pad_token_type_id", "padding_side"),
    ),
}


@dataclass(frozen=True)
class Scenario:
    """A command.

    prepare: makes its inputs in a folder, and returns the command.
    resume: what is added to the command to continue in a folder where it failed.
    """

    name: str
    prepare: Callable[[Path], list[str]]
    resume: Callable[[Path], list[str]] = lambda folder: []


def result_of(folder: Path) -> dict[str, object]:
    """Everything in a folder that two runs must agree on: path -> digest of the content, or the content."""
    result: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.name.endswith(LOCK_FILE) or name.startswith(("inputs/", "run/logs/")):
            continue
        result[name] = _content(path)
    return result


def _content(path: Path) -> object:
    if path.name == "trainer_state.json":
        state: dict[str, Any] = json.loads(path.read_text())
        rows = [{key: row[key] for key in row if key not in _TIMES} for row in state["log_history"]]
        return state["global_step"], [row for row in rows if row.keys() > {"epoch", "step"}]
    if path.name in _LOADED:
        # transformers writes down more defaults of what it has loaded from a checkpoint
        return _without(json.loads(path.read_text()), _LOADED[path.name])
    if path.name == "report.html":
        return path.read_text().rstrip().endswith("</html>")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without(value: object, keys: tuple[str, ...]) -> object:
    if not isinstance(value, dict):
        return value
    return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}


def half_written(folder: Path) -> list[str]:
    """What a command that ended by itself should have removed: hidden files, and stores that do not open."""
    left = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_work = path.name.endswith("-combining")  # which the next run continues
        if path.name.startswith(".") and not path.name.endswith(LOCK_FILE) and not is_work:
            left.append(name)
        if path.name == "store.json":
            Store.open(path.parent)
    return left


def _copy_scenes(folder: Path) -> Path:
    """Scenes in a folder of their own, so that reads of their images are events of it."""
    scenes = folder / "inputs" / "scenes"
    shutil.copytree(SCENES, scenes)
    return scenes


def _write_stores(folder: Path, *names: str) -> list[Path]:
    scenes = _copy_scenes(folder)
    stores = []
    for name in names:
        path = folder / "inputs" / "stores" / name
        records = (replace(record, id=f"{name}-{record.id}") for record in read_clevr(scenes, "train"))
        write_store(path, records, scenes)
        stores.append(path)
    return stores


def _train(stops_early: bool) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (store,) = _write_stores(folder, "shapes")
        content = small_recipe(store, evaluate_every=2, pictures=1)
        if stops_early:
            # A score that rises, so that each evaluation replaces the model
            stopping = {"score": "shapes_phrase_grounding_recall@10", "patience": 9}
            content["run"] |= {"evaluate_every": 1, "early_stopping": stopping}
        recipe = folder / "inputs" / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(content))
        return ["train", str(recipe), "--output", str(folder / "run")]

    return prepare


def _resume_training(folder: Path) -> list[str]:
    return ["--resume"] if complete_checkpoints(folder / "run") else []


def _import(folder: Path) -> list[str]:
    scenes = _copy_scenes(folder)
    store = folder / "stores" / "shapes"
    # An earlier store, with fewer records, that is replaced
    write_store(store, list(read_clevr(scenes, "train"))[:3], scenes)
    return ["data", "import", "clevr", str(scenes), str(store), "--embed-images", "--overwrite"]


def _combine(folder: Path) -> list[str]:
    stores = map(str, _write_stores(folder, "first", "second"))
    return ["data", "combine", *stores, "--output", str(folder / "combined"), "--processes", "1"]


def _label(folder: Path) -> list[str]:
    images = _copy_scenes(folder) / "images" / "train"
    formats = [part for name in ("coco", "yolo", "voc", "store") for part in ("--to", name)]
    labels = ["--classes", "red cube, metal sphere", "--threshold", "0.01", *formats]
    return ["label", str(images), str(folder / "labels"), *labels, "--model", "clevr-tiny"]


SCENARIOS = (
    Scenario("train", _train(stops_early=False), _resume_training),
    Scenario("train, keeping the best model", _train(stops_early=True), _resume_training),
    Scenario("data import", _import),
    Scenario("data combine", _combine),
    Scenario("label", _label),
)
