"""`mdetr train` and `mdetr evaluate`: a recipe in; a model, then its scores, out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Command
from tests.training.conftest import shapes_store, small_recipe  # noqa: F401 (a fixture)


@pytest.fixture
def recipe(shapes_store: Path, tmp_path: Path) -> Path:  # noqa: F811
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(small_recipe(shapes_store)))
    return path


def test_a_trained_model_is_scored_and_asked(
    command: Command, recipe: Path, picture: Path, tmp_path: Path
) -> None:
    run, scores = tmp_path / "run", tmp_path / "scores.json"
    code, output, _ = command("train", recipe, "--set", "optimiser.steps=2", "--output", run)
    assert code == 0
    assert f"The model is in {run / 'model'}" in output
    code, output, _ = command("evaluate", recipe, "--model", run / "model", "--json", scores)
    assert code == 0
    assert "recall@1" in output
    trained = json.loads((run / "metrics.json").read_text())
    for name, value in json.loads(scores.read_text())["shapes"].items():
        assert trained[f"eval_shapes_{name}"] == pytest.approx(value, abs=1e-6)
    assert command("ground", picture, "a cube", "--model", run / "model")[0] == 0


def test_a_dry_run_prints_the_whole_recipe_and_trains_nothing(
    command: Command, recipe: Path, tmp_path: Path
) -> None:
    code, output, _ = command(
        "train", recipe, "--set", "optimiser.lr=0.5", "--dry-run", "--output", tmp_path / "run"
    )
    assert code == 0
    assert yaml.safe_load(output)["optimiser"]["lr"] == 0.5
    assert yaml.safe_load(output)["optimiser"]["weight_decay"] == 1e-4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.stepps=2", "steps"),
        ("model.config.num_querys=2", "num_queries"),
        ("optimiser.lr=fast", "optimiser.lr"),
    ],
)
def test_a_misspelt_key_or_a_bad_value_is_named(
    command: Command, recipe: Path, tmp_path: Path, change: str, message: str
) -> None:
    code, _, error = command("train", recipe, "--set", change, "--output", tmp_path / "run")
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_whose_store_is_missing_is_refused(command: Command, recipe: Path, tmp_path: Path) -> None:
    code, _, error = command("evaluate", recipe, "--model", "x", "--set", "data.validation.shapes.store=none")
    assert code == 1
    assert "none" in error
