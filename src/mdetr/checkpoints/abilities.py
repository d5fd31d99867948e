"""Which models answer questions or make masks, told before their weights are loaded or downloaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdetr.checkpoints.registry import BUNDLED, RELEASED, Task, released_model
from mdetr.errors import InvalidInputError

# Tasks that need a head of their own: the field of the configuration that has it, and what it does.
_HEADS = {
    Task.ANSWERING: ("answer_queries", "answers questions"),
    Task.SEGMENTATION: ("predict_masks", "makes masks"),
}


def check_ability(config: Mapping[str, Any], task: Task, name: str) -> None:
    """See that a model has the head that a task needs.

    Args:
        config: The fields of its configuration.
        task: What it is asked to do.
        name: Of the model, for the message.

    Raises:
        InvalidInputError: It lacks the head; the models with names that have it are listed.
    """
    if task in _HEADS and not config.get(_HEADS[task][0]):
        raise _unable(task, name)


def check_ability_of_release(name: str, task: Task) -> None:
    """See by its name alone that a released model, which may not be downloaded yet, can do a task.

    Raises:
        InvalidInputError: It lacks the head that the task needs.
    """
    released = released_model(name)
    if released is not None and task in _HEADS and released.task is not task:
        raise _unable(task, name)


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a model's configuration as its file says them; what it leaves out is missing."""
    fields: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return fields


def _unable(task: Task, name: str) -> InvalidInputError:
    field, what = _HEADS[task]
    bundled = [entry.name for entry in BUNDLED if read_config(entry.folder).get(field)]
    released = [entry.name for entry in RELEASED if entry.task is task]
    known = [f"{', '.join(bundled)}, which comes with the package"] if bundled else []
    known.append(f"{', '.join(released)}, which are downloaded")
    return InvalidInputError(
        f"The model {name} has no head that {what}. These have one: {'; '.join(known)}. Name one of them, or "
        "one that you trained for it."
    )
