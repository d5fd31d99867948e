"""Recipes that ship with the package."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from mdetr.errors import RecipeError

FOLDER = Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package, in order."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def shipped_recipe(name: str) -> Path:
    """The file of a recipe that comes with the package.

    Args:
        name: Such as "finetune".

    Raises:
        RecipeError: No recipe has this name.
    """
    if name not in recipe_names():
        near = get_close_matches(Path(name).stem, recipe_names(), n=1)
        hint = f"did you mean {near[0]}?" if near else "mdetr recipes lists those that have names."
        raise RecipeError(f"There is no recipe {name}: {hint}")
    return FOLDER / f"{name}.yaml"


def describe_recipe(name: str) -> str:
    """What a recipe that comes with the package is for: the first line of its file, a comment."""
    return shipped_recipe(name).read_text("utf-8").partition("\n")[0].removeprefix("#").strip()


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe: the one at this path, or else the one of this name in the package.

    Args:
        recipe: A path, or a name of `mdetr recipes`. recipes/NAME.yaml, where a clone of the repository
            once had them, stands for NAME if there is no such file.

    Raises:
        RecipeError: There is neither.
    """
    file = Path(recipe)
    return file if file.is_file() else shipped_recipe(_name(str(recipe)))


def find_recipes(patterns: Sequence[str | Path]) -> list[Path]:
    """The files of several recipes, of which "lvis-*" means all that come with the package and fit.

    Raises:
        RecipeError: One of them is not there, or none fits.
    """
    found: list[Path] = []
    for pattern in patterns:
        fitting = [] if Path(pattern).is_file() else fnmatch.filter(recipe_names(), _name(str(pattern)))
        found += [shipped_recipe(name) for name in fitting] or [find_recipe(pattern)]
    return found


def _name(recipe: str) -> str:
    file = Path(recipe)
    is_former_path = file.parent.name == FOLDER.name and file.suffix == ".yaml"
    return file.stem if is_former_path else recipe
