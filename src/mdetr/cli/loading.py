"""Loading of the model that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdetr.cli.options import Precision

if TYPE_CHECKING:
    from mdetr.checkpoints.registry import Task
    from mdetr.inference.grounder import Mdetr


def load_model(
    name: str, device: str | None, dtype: Precision = Precision.FLOAT32, task: Task | None = None
) -> Mdetr:
    """Load a model, after checking everything that can be checked quickly.

    Args:
        name: A name from `mdetr models`, a folder or a Hub id.
        device: Device to run on; None for a GPU if there is one.
        dtype: Number type of the model.
        task: Task that the model must have a head for; None for any model.

    Returns:
        The model with its processor.
    """
    from mdetr.checkpoints.abilities import check_ability, check_ability_of_release, read_config
    from mdetr.checkpoints.finding import find_model

    # Refuse an unsuitable released model before it is downloaded
    if task is not None:
        check_ability_of_release(name, task)
    if device is not None or dtype != Precision.FLOAT32:
        from mdetr.inference.devices import check_request

        check_request(device, dtype.value)

    # Refuse an unsuitable model before torch is imported
    folder = find_model(name)
    if task is not None:
        check_ability(read_config(folder), task, name)

    from mdetr.inference.grounder import Mdetr

    return Mdetr.from_pretrained(folder, device, dtype.value)
