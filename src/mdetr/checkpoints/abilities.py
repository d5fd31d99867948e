"""Checks that a model has the head for a task, before its weights are loaded or downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdetr.checkpoints.registry import BUNDLED, RELEASED, Task, released_model
from mdetr.errors import InvalidInputError
from mdetr.files import read_json_object

# Tasks that need an additional head -> the configuration field that enables it, and its purpose
_HEADS = {
    Task.ANSWERING: ("answer_queries", "answers questions"),
    Task.SEGMENTATION: ("predict_masks", "makes masks"),
}


def supported_tasks(config: Mapping[str, Any]) -> tuple[Task, ...]:
    """List the tasks that a model has the heads for.

    Args:
        config: Fields of its configuration.

    Returns:
        The tasks, in the order of `Task`.
    """
    return tuple(task for task in Task if task not in _HEADS or config.get(_HEADS[task][0]))


def check_ability(config: Mapping[str, Any], task: Task, name: str) -> None:
    """Check that a model has the head that a task needs.

    Args:
        config: Fields of its configuration.
        task: Task to perform.
        name: Name of the model, for the message.

    Raises:
        InvalidInputError: It lacks the head; the message lists the models that have it.
    """
    if task in _HEADS and not config.get(_HEADS[task][0]):
        raise _unable(task, name)


def check_ability_of_release(name: str, task: Task) -> None:
    """Check by its name alone that a released model, which may not be downloaded yet, supports a task.

    Args:
        name: Name of the model; other names than those of released models pass.
        task: Task to perform.

    Raises:
        InvalidInputError: It lacks the head that the task needs.
    """
    released = released_model(name)
    if released is not None and task in _HEADS and released.task is not task:
        raise _unable(task, name)


def read_config(folder: Path) -> dict[str, Any]:
    """Fields of a model's configuration file; fields with defaults may be missing."""
    return read_json_object(folder / "config.json")


def _unable(task: Task, name: str) -> InvalidInputError:
    field, what = _HEADS[task]
    bundled = [entry.name for entry in BUNDLED if read_config(entry.folder).get(field)]
    released = [entry.name for entry in RELEASED if entry.task is task]
    known = [f"{', '.join(bundled)}, which comes with the package"] if bundled else []
    known.append(f"{', '.join(released)}, which are downloaded")
    return InvalidInputError(
        f"The model {name} has no head that {what}. These have one: {'; '.join(known)}. Use one of them, or "
        "one that you trained for it."
    )
