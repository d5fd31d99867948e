"""Finding of recipes by path, name or pattern."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdetr.errors import RecipeError
from mdetr.training.recipe_file import (
    FOLDER,
    describe_recipe,
    find_recipe,
    find_recipes,
    load_recipe,
    recipe_names,
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_name_means_the_recipe_of_the_package_in_any_folder() -> None:
    assert find_recipe("finetune") == FOLDER / "finetune.yaml"
    assert load_recipe("refcoco+") == load_recipe(FOLDER / "refcoco+.yaml")
    assert {"clevr-tiny", "finetune", "gqa-balanced", "lvis-100", "refcoco+"} <= set(recipe_names())


def test_a_file_takes_precedence_over_a_name_and_a_folder_does_not() -> None:
    Path("gqa-all").mkdir()
    assert find_recipe("gqa-all") == FOLDER / "gqa-all.yaml"
    Path("finetune").write_text("seed: 3")
    assert find_recipe("finetune") == Path("finetune")
    assert find_recipes(["finetune"]) == [Path("finetune")]


def test_the_former_path_of_a_recipe_means_its_name() -> None:
    assert find_recipe("recipes/finetune.yaml") == FOLDER / "finetune.yaml"
    Path("recipes").mkdir()
    own = Path("recipes/finetune.yaml")
    own.write_text("seed: 3")
    assert find_recipe("recipes/finetune.yaml") == own


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("finetun", "There is no recipe finetun: did you mean finetune?"),
        ("mine/finetune.yaml", "There is no recipe mine/finetune.yaml: did you mean finetune?"),
        ("zzz.yaml", "There is no recipe zzz.yaml: list the names with 'mdetr recipes'."),
        ("zzz-*", "There is no recipe zzz-*: list the names with 'mdetr recipes'."),
    ],
)
def test_an_unknown_recipe_is_refused_with_the_closest_name(recipe: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipes([recipe])
    assert str(caught.value) == message


@pytest.mark.parametrize("pattern", ["lvis-?", "recipes/lvis-?.yaml"])
def test_a_pattern_means_all_recipes_that_match(pattern: str) -> None:
    assert find_recipes([pattern, "clevr"]) == [FOLDER / "lvis-1.yaml", FOLDER / "clevr.yaml"]


def test_every_recipe_has_a_short_description() -> None:
    for name in recipe_names():
        assert 15 < len(describe_recipe(name)) <= 78 - max(map(len, recipe_names())), name
