"""What a run that is resumed may change: the settings of its steps and data, but not its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mdetr.errors import RecipeError, TrainingError
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import load_recipe, to_yaml

# A checkpoint has its model and processor, so other settings of theirs would have no effect
_KEPT_SECTIONS = ("model", "image")
_ABSENT = object()


def changed_settings(file: Path, recipe: Recipe) -> list[str]:
    """Compare the recipe of a run that is resumed with the one that it was started with.

    Args:
        file: The recipe that the run wrote into its folder; it may be missing or from an older version.
        recipe: The recipe to resume with.

    Returns:
        A sentence for each setting that changes from here on.

    Raises:
        TrainingError: A setting differs that the run's model already has.
    """
    # A recipe of another version of the package may not parse; the run is still good
    try:
        before = _settings(load_recipe(file))
    except RecipeError:
        return [f"{file} cannot be compared with the recipe, whose settings hold from here on."]
    after = _settings(recipe)
    keys = [*after, *(key for key in before if key not in after)]
    changed = [key for key in keys if before.get(key, _ABSENT) != after.get(key, _ABSENT)]

    kept = [key for key in changed if key.split(".")[0] in _KEPT_SECTIONS]
    if kept:
        raise TrainingError(
            f"{_change(kept[0], before, after)}, but a resumed run keeps its model and processor: leave the "
            f"setting as it was, or start a new run with model.start_from={file.parent / 'model'}."
        )
    return [f"Changed from here on: {_change(key, before, after)}." for key in changed]


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return the value of each setting by its key, such as "optimizer.lr"."""
    return dict(_leaves(yaml.safe_load(to_yaml(recipe)), ""))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    children: Mapping[Any, Any] = {}
    if isinstance(value, dict):
        children = value
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        children = dict(enumerate(value))
    if not children:
        yield key, value
    for name, child in children.items():
        yield from _leaves(child, f"{key}.{name}" if key else str(name))


def _change(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = (_shown(settings.get(key, _ABSENT)) for settings in (before, after))
    return f"{key} was {old} and is {new} now"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
