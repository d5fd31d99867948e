"""The plan of a run (`--dry-run`): what it trains, counts and estimates."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch import nn

from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
from mdetr.training.build import Components, build_components
from mdetr.training.ema import start_fraction
from mdetr.training.optimization import (
    OptimizerSettings,
    Schedule,
    parameter_groups,
    steps_per_epoch,
    total_steps,
)
from mdetr.training.preparation import import_own_data, prepare_data
from mdetr.training.recipe import Recipe
from mdetr.training.skipping import SkippingDataset

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # of the schedule's picture
WARM_UP = 2  # steps that are not timed: the first ones choose kernels and fill caches
TIMED = 5  # steps whose median is told
PATIENCE = 60  # seconds after which no further step is timed
BYTES = 4  # of a float32


@dataclass(frozen=True)
class Group:
    """A group of the optimizer: how much trains, the base rate, and the rates at points of the run."""

    name: str
    tensors: int
    parameters: int
    lr: float
    rates: tuple[float, ...]

    def picture(self) -> str:
        """The rates as bars, the highest of all as high as can be."""
        highest = max(self.rates) or 1.0
        return "".join(BARS[round(rate / highest * (len(BARS) - 1))] for rate in self.rates)


@dataclass(frozen=True)
class Plan:
    """What a run will be.

    groups, frozen: of parameters. examples, steps_per_epoch, steps: of training. state_bytes: weights,
    gradients, Adam's moments and the average on each process. batch: examples of a measured step, on one
    process; seconds: the median of those that were timed after a warm-up; timed: their number; peak_bytes: of
    GPU memory, None on a CPU. start_fraction: of the start weights in the average that will be saved; None
    without an average. notes: what else to know.
    """

    groups: tuple[Group, ...]
    frozen: int
    examples: int
    steps_per_epoch: int
    steps: int
    state_bytes: int
    batch: int
    seconds: float
    timed: int
    peak_bytes: int | None
    start_fraction: float | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The plan in words."""
        told = [
            f"{group.name}: {group.parameters:,} parameters in {group.tensors} tensors, rate {group.lr:g}"
            f"  {group.picture()}"
            for group in self.groups
        ]
        told.append(f"frozen: {self.frozen:,} parameters")
        told.append(
            f"{self.examples:,} examples, {self.steps_per_epoch:,} steps an epoch, {self.steps:,} in all"
        )
        told.append(f"{self.state_bytes / 2**30:.2f} GiB for weights, gradients, moments and average")
        if self.peak_bytes is not None:
            told.append(f"{self.peak_bytes / 2**30:.2f} GiB of GPU memory at most in one step")
        steps = "1 step" if self.timed == 1 else f"{self.timed} steps"
        told.append(
            f"a step of {self.batch} examples takes {self.seconds:.2f} s here (median of {steps} after a "
            f"warm-up); {self.steps:,} of them take {_duration(self.seconds * self.steps)}, "
            "besides evaluation"
        )
        if self.start_fraction is not None:
            told.append(f"the saved average will hold {self.start_fraction:.1%} of the start weights")
        return [*told, *self.notes]


def make_plan(recipe: Recipe, folder: Path, num_processes: int = 1) -> Plan:
    """Make the model and the data of a recipe, and time some steps of training.

    Args:
        recipe: what is to be run. folder: where stores of your own files are made, if there are any.
        num_processes: that will share each batch.

    Raises:
        RecipeError, InvalidInputError: something that the recipe names is missing or does not fit.
    """
    recipe = replace(recipe, data=import_own_data(recipe.data, folder))
    components = build_components(recipe.model, recipe.image, recipe.data, recipe.run.gradient_checkpointing)
    notes: list[str] = []
    broken = BrokenExamples(folder / BROKEN_FILE)
    mixture = prepare_data(recipe, components, notes.append, broken).mixture
    optimizer = recipe.optimizer
    per_epoch = steps_per_epoch(optimizer, len(mixture))
    steps = total_steps(optimizer, len(mixture))
    schedule = Schedule(recipe.schedule, per_epoch, steps)
    points = [round(column * max(steps - 1, 0) / (COLUMNS - 1)) for column in range(COLUMNS)]
    groups = []
    for group in parameter_groups(components.model, optimizer):
        sizes = [parameter.numel() for parameter in group["params"]]
        rates = tuple(group["lr"] * schedule.factor(point, group["name"]) for point in points)
        groups.append(Group(group["name"], len(sizes), sum(sizes), group["lr"], rates))
    trained = sum(group.parameters for group in groups)
    all_of_them = sum(parameter.numel() for parameter in components.model.parameters())
    copies = 1 + (recipe.ema is not None)
    batch = max(1, optimizer.batch_size // num_processes // recipe.run.gradient_accumulation)
    examples = SkippingDataset(mixture, broken, components.check)
    seconds, timed, peak = _measure(components, examples, min(batch, len(mixture)), optimizer)
    ema = recipe.ema
    return Plan(
        groups=tuple(groups),
        frozen=all_of_them - trained,
        examples=len(mixture),
        steps_per_epoch=per_epoch,
        steps=steps,
        state_bytes=BYTES * (copies * all_of_them + 3 * trained),
        batch=min(batch, len(mixture)),
        seconds=seconds * recipe.run.gradient_accumulation,
        timed=timed,
        peak_bytes=peak,
        start_fraction=None if ema is None else start_fraction(steps, ema.decay, ema.ramp),
        notes=tuple(notes),
    )


def _measure(
    components: Components, examples: SkippingDataset, batch_size: int, settings: OptimizerSettings
) -> tuple[float, int, int | None]:
    """The median seconds of some steps after a warm-up, their number, and the most GPU memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: nn.Module = components.model.to(device).train()
    # At a rate of 0 the optimizer does its work, and the model stays what it is.
    groups = [group | {"lr": 0.0} for group in parameter_groups(model, settings)]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    examples.mixture.set_epoch(0)
    seconds: list[float] = []
    begun = time.perf_counter()
    for step in range(WARM_UP + TIMED):
        # Other examples in each step, since batches differ in size; a small set begins anew.
        places = [(step * batch_size + place) % len(examples.mixture) for place in range(batch_size)]
        batch = components.collator([examples[place] for place in places])
        batch.pop("records")
        inputs = {name: _moved(value, device) for name, value in batch.items()}
        started = time.perf_counter()
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        if len(seconds) > 1 and time.perf_counter() - begun > PATIENCE:
            break
    timed = seconds[min(WARM_UP, len(seconds) - 1) :]
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return median(timed), len(timed), peak


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _moved(item, device) for name, item in value.items()}
    return [_moved(item, device) for item in value] if isinstance(value, list) else value
