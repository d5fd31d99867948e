"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mdetr.errors import CheckpointError
from mdetr.settings import STRICT, Fraction

_NOTHING = 1e-12  # a fraction that no float32 weight shows


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


def decay_at(update: int, decay: float, ramp: bool) -> float:
    """The fraction of the old average that an update keeps.

    Args:
        update: How many updates there were before it.
        decay: The fraction to keep, 0 to 1.
        ramp: Whether to keep less at first: min(decay, (1 + n) / (10 + n)) at update n.
    """
    return min(decay, (1 + update) / (10 + update)) if ramp else decay


def start_fraction(steps: int, decay: float, ramp: bool) -> float:
    """The fraction of the start weights that the average still holds after a number of updates."""
    fraction = 1.0
    for update in range(steps):
        fraction *= decay_at(update, decay, ramp)
        if fraction < _NOTHING:
            return 0.0
    return fraction


class ExponentialMovingAverage:
    """Averages every entry of a model's state; integers (counters) are copied.

    Args:
        model: whose state is averaged; the average starts as a copy of it.
        decay: share of the old average that each update keeps.
        ramp: whether the decay starts low, see `decay_at`, so that the average follows a run of any length.
    """

    def __init__(self, model: nn.Module, decay: float, ramp: bool = False) -> None:
        self.decay = decay
        self.ramp = ramp
        self.updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        """Entry -> its average; where a model is sharded, of this process's shard alone."""

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model: average = decay * average + (1 - decay) * state."""
        decay = decay_at(self.updates, self.decay, self.ramp)
        self.updates += 1
        state = model.state_dict()
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, average in self.average.items():
            if average.is_floating_point():
                averages.append(_local(average))
                values.append(_local(state[name]))
            else:
                average.copy_(state[name])
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights for the time of the context."""
        state = model.state_dict()
        own = {name: tensor.clone() for name, tensor in state.items()}
        try:
            copy_tensors(self.average, state)
            yield
        finally:
            copy_tensors(own, state)

    def whole(self) -> dict[str, Tensor]:
        """The average of all processes' shards; of a sharded model all must ask for it together."""
        return {name: whole_tensor(tensor) for name, tensor in self.average.items()}

    def save(self, path: Path, write: bool = True) -> None:
        """Write the average to a safetensors file; of a sharded model all must call this, and one writes."""
        tensors = {name: tensor.contiguous() for name, tensor in self.whole().items()}
        if write:
            save_file(tensors, path, metadata={"updates": str(self.updates)})

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            CheckpointError: the file is missing, or belongs to another model.
        """
        if not path.is_file():
            raise CheckpointError(f"There is no {path}, so the averaged weights cannot be resumed.")
        tensors = load_file(path)
        if {name: t.shape for name, t in tensors.items()} != {
            name: t.shape for name, t in self.average.items()
        }:
            raise CheckpointError(f"{path} holds the averaged weights of another model.")
        copy_tensors(tensors, self.average)
        with _open_metadata(path) as metadata:
            self.updates = int(metadata["updates"])


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor, or all shards of one that is spread over processes, put together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into those of the same names, of which a process may have a shard alone."""
    for name, tensor in target.items():
        value = source[name]
        if isinstance(tensor, DTensor) and not isinstance(value, DTensor):
            value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
        tensor.copy_(value)


@contextmanager
def _open_metadata(path: Path) -> Iterator[dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        yield file.metadata()
