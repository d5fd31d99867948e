"""A resumed run tells which settings change from there on, and refuses those that cannot."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mdetr.errors import TrainingError
from mdetr.training.recipe_file import parse_recipe, to_yaml
from mdetr.training.resuming import changed_settings
from mdetr.training.run import train
from tests.small_training import small_recipe


@pytest.fixture
def content(shapes_store: Path) -> dict[str, Any]:
    return small_recipe(shapes_store)


@pytest.fixture
def file(content: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(parse_recipe(content)))
    return path


def test_the_same_recipe_changes_nothing(content: dict[str, Any], file: Path) -> None:
    assert changed_settings(file, parse_recipe(content)) == []


def test_every_changed_setting_is_told(content: dict[str, Any], file: Path, shapes_store: Path) -> None:
    changed = copy.deepcopy(content)
    changed["optimizer"]["steps"] = 99
    changed["ema"] = None
    changed["data"]["validation"]["more"] = {"store": str(shapes_store), "tasks": ["referring"]}
    told = "\n".join(changed_settings(file, parse_recipe(changed)))
    assert f"optimizer.steps was {content['optimizer']['steps']} and is 99 now." in told
    assert "ema was not set and is null now" in told
    assert "data.validation.more.tasks was not set and is ['referring'] now" in told


@pytest.mark.parametrize(
    ("section", "key", "value"), [("model", "answers", "clevr"), ("image", "shortest_edge", 64)]
)
def test_a_setting_of_the_model_cannot_change(
    content: dict[str, Any], file: Path, section: str, key: str, value: object
) -> None:
    changed = copy.deepcopy(content)
    changed[section][key] = value
    with pytest.raises(TrainingError, match=rf"^{section}.{key} was .* keeps its model and processor"):
        changed_settings(file, parse_recipe(changed))


def test_a_recipe_that_cannot_be_read_is_told(content: dict[str, Any], tmp_path: Path) -> None:
    (told,) = changed_settings(tmp_path / "recipe.yaml", parse_recipe(content))
    assert "cannot be compared" in told


def test_a_longer_run_says_so_and_one_with_another_model_leaves_all_as_it_was(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content["data"]["validation"] = {}
    content["optimizer"]["steps"] = 1
    train(parse_recipe(content), tmp_path / "run")
    content["optimizer"]["steps"] = 2
    train(parse_recipe(content), tmp_path / "run", resume=True)
    assert "optimizer.steps was 1 and is 2 now." in capsys.readouterr().out

    recipe = (tmp_path / "run" / "recipe.yaml").read_bytes()
    content["model"]["config"]["num_queries"] = 13
    with pytest.raises(TrainingError, match="num_queries was 12 and is 13 now"):
        train(parse_recipe(content), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == recipe
