"""Exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mdetr.errors import CheckpointError
from mdetr.settings import STRICT, Fraction

MAX_START_FRACTION = 0.1  # of the start weights in the saved average, above which a run is warned
_NEGLIGIBLE = 1e-12  # a fraction too small to change a float32 weight


@dataclass(frozen=True, config=STRICT)
class EmaSettings:
    """Settings of the average of the weights that is evaluated and saved.

    Attributes:
        decay: Fraction of the average that each step keeps.
        ramp: Start with a low decay that rises with the steps, so that the average suits a run of any
            length; without it the average of a short run is mostly the start weights.
    """

    decay: Fraction = 0.9998
    ramp: bool = True


def decay_at(update: int, settings: EmaSettings) -> float:
    """Compute the fraction of the old average that an update keeps.

    Args:
        update: Number of updates before it.
        settings: The decay d; with a ramp, update n keeps min(d, (1 + n) / (10 + n)).

    Returns:
        The fraction, 0 to 1.
    """
    decay = settings.decay
    return min(decay, (1 + update) / (10 + update)) if settings.ramp else decay


def start_fraction(steps: int, settings: EmaSettings) -> float:
    """Compute the fraction of the start weights in the average.

    Args:
        steps: Number of updates of the average.
        settings: How the weights are averaged.

    Returns:
        The fraction, 0 to 1.
    """
    fraction = 1.0
    for update in range(steps):
        fraction *= decay_at(update, settings)
        if fraction < _NEGLIGIBLE:
            return 0.0
    return fraction


def start_fraction_warning(steps: int, settings: EmaSettings) -> str | None:
    """Return a warning if a run is so short that its average will hold too much of the start weights.

    Args:
        steps: Steps of the run.
        settings: How the weights are averaged.

    Returns:
        The warning, or None if there is no reason for one.
    """
    fraction = start_fraction(steps, settings)
    if fraction <= MAX_START_FRACTION:
        return None
    return (
        f"Warning: after {steps:,} steps the average of the weights, which is saved, will still hold "
        f"{fraction:.1%} of the start weights: set ema.ramp=true or a lower ema.decay, or train for more "
        "steps."
    )


class ExponentialMovingAverage:
    """Averages every entry of a model's state; integers (counters) are copied.

    Args:
        model: Model whose state is averaged; the average starts as a copy of it.
        settings: How the weights are averaged.

    Attributes:
        average: Entry -> its average; if the model is sharded, this process's shard.
        updates: Number of updates so far.
    """

    def __init__(self, model: nn.Module, settings: EmaSettings) -> None:
        self.settings = settings
        self.updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model: average = decay * average + (1 - decay) * state."""
        decay = decay_at(self.updates, self.settings)
        self.updates += 1

        # Collect the tensors to average, of a sharded model its local shards; copy counters
        state = model.state_dict()
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, average in self.average.items():
            if average.is_floating_point():
                averages.append(_local(average))
                values.append(_local(state[name]))
            else:
                average.copy_(state[name])

        # Update them with one kernel for all
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights within the context."""
        state = model.state_dict()
        own = {name: tensor.clone() for name, tensor in state.items()}
        try:
            copy_tensors(self.average, state)
            yield
        finally:
            copy_tensors(own, state)

    def whole(self) -> dict[str, Tensor]:
        """Return the unsharded average; if the model is sharded, all processes must call this together."""
        return _whole(self.average)

    def save(self, path: Path, write: bool = True) -> None:
        """Write the average to a safetensors file.

        If the model is sharded, all processes must call this together.

        Args:
            path: The file.
            write: Write the file; False in all processes but one.
        """
        tensors = {name: tensor.contiguous() for name, tensor in self.whole().items()}
        if write:
            save_file(tensors, path, metadata={"updates": str(self.updates)})

    def load(self, path: Path) -> None:
        """Resume from a file that `save` wrote.

        Args:
            path: The file.

        Raises:
            CheckpointError: The file is missing, or belongs to another model.
        """
        if not path.is_file():
            raise CheckpointError(
                f"There is no {path}, so the averaged weights cannot be resumed; resume from another "
                "checkpoint, or set ema=null."
            )
        tensors = load_file(path)
        if _shapes(tensors) != _shapes(self.average):
            raise CheckpointError(
                f"{path} holds the averaged weights of another model; resume with the recipe of that run."
            )
        with safe_open(path, framework="pt") as file:
            updates = (file.metadata() or {}).get("updates", "")
        if not updates.isdecimal():
            raise CheckpointError(
                f"{path} does not say how many updates its average has; resume from another checkpoint."
            )
        copy_tensors(tensors, self.average)
        self.updates = int(updates)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered from all processes if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state, gathered from all processes if it is sharded."""
    return _whole(model.state_dict())


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: whole_tensor(tensor) for name, tensor in tensors.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into tensors of the same names, which may be sharded.

    Args:
        source: Name -> whole tensor, or a tensor sharded like its target.
        target: Name -> tensor to fill in place.
    """
    for name, tensor in target.items():
        value = source[name]
        if isinstance(tensor, DTensor) and not isinstance(value, DTensor):
            # Give this process its shard
            value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
        tensor.copy_(value)
