"""Plan of a run (`--dry-run`): what it trains, how many steps it takes, and estimates of memory and time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch import nn

from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
from mdetr.training.build import Components, build_components
from mdetr.training.datasets import import_own_data
from mdetr.training.ema import start_fraction
from mdetr.training.optimization import (
    OptimizerSettings,
    Schedule,
    parameter_groups,
    steps_per_epoch,
    total_steps,
)
from mdetr.training.recipe import Recipe
from mdetr.training.run import notes_of
from mdetr.training.skipping import SkippingDataset, prepare_data

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # of the drawing of the schedule
WARM_UP = 2  # steps that are not timed: the first ones choose kernels and fill caches
TIMED = 5  # steps whose median time is reported
PATIENCE = 60  # seconds after which no further step is timed
BYTES = 4  # of a float32


@dataclass(frozen=True)
class Group:
    """A group of parameters of the optimizer.

    Attributes:
        name: Name of the group.
        tensors: Number of tensors.
        parameters: Number of parameters.
        lr: Base learning rate.
        rates: Learning rates at points of the run.
    """

    name: str
    tensors: int
    parameters: int
    lr: float
    rates: tuple[float, ...]

    def drawing(self) -> str:
        """Draw the rates as bars, scaled to the highest of them."""
        highest = max(self.rates) or 1.0
        return "".join(BARS[round(rate / highest * (len(BARS) - 1))] for rate in self.rates)


@dataclass(frozen=True)
class Plan:
    """What a run will train, and what it needs.

    Attributes:
        groups: Groups of trained parameters.
        frozen: Number of parameters that do not train.
        examples: Number of training examples.
        steps_per_epoch: Steps of an epoch.
        steps: Steps of the run.
        state_bytes: Bytes of weights, gradients, Adam's moments and the average, in each process.
        batch: Examples of a measured step, in one process.
        seconds: Median time of the measured steps, after a warm-up.
        timed: Number of measured steps.
        peak_bytes: Peak of GPU memory; None on a CPU.
        start_fraction: Fraction of the start weights in the average that will be saved; None for no average.
        notes: Sentences that a user should read before the run starts.
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
        """Describe the plan, a line each."""
        lines = [
            f"{group.name}: {group.parameters:,} parameters in {group.tensors} tensors, rate {group.lr:g}"
            f"  {group.drawing()}"
            for group in self.groups
        ]
        lines.append(f"frozen: {self.frozen:,} parameters")
        lines.append(
            f"{self.examples:,} examples, {self.steps_per_epoch:,} steps an epoch, {self.steps:,} in all"
        )
        lines.append(f"{self.state_bytes / 2**30:.2f} GiB for weights, gradients, moments and average")
        if self.peak_bytes is not None:
            lines.append(f"{self.peak_bytes / 2**30:.2f} GiB of GPU memory at most in one step")
        steps = "1 step" if self.timed == 1 else f"{self.timed} steps"
        lines.append(
            f"a step of {self.batch} examples takes {self.seconds:.2f} s here (median of {steps} after a "
            f"warm-up); {self.steps:,} of them take {_duration(self.seconds * self.steps)}, "
            "besides evaluation"
        )
        if self.start_fraction is not None:
            lines.append(f"the saved average will hold {self.start_fraction:.1%} of the start weights")
        return [*lines, *self.notes]


def make_plan(recipe: Recipe, folder: Path, num_processes: int = 1) -> Plan:
    """Build the model and the data of a recipe, and time some steps of training.

    Args:
        recipe: Settings of the run.
        folder: Folder for the stores of JSON Lines files, if there are any.
        num_processes: Number of processes that will share each batch.

    Returns:
        The plan.

    Raises:
        RecipeError, InvalidInputError: Something that the recipe names is missing or invalid.
    """
    # Build the model and open the data
    recipe = replace(recipe, data=import_own_data(recipe.data, folder))
    components = build_components(recipe.model, recipe.image, recipe.data, recipe.run.gradient_checkpointing)
    broken = BrokenExamples(folder / BROKEN_FILE)
    data = prepare_data(recipe.data, components, recipe.seed, broken)
    num_examples = len(data.mixture)

    # Count steps and parameters
    optimizer = recipe.optimizer
    per_epoch, steps = steps_per_epoch(optimizer, num_examples), total_steps(optimizer, num_examples)
    groups = _groups(components.model, optimizer, Schedule(recipe.schedule, per_epoch, steps), steps)
    trained = sum(group.parameters for group in groups)
    parameters = sum(parameter.numel() for parameter in components.model.parameters())
    copies = 1 if recipe.ema is None else 2

    # Time some steps
    batch = max(1, optimizer.batch_size // num_processes // recipe.run.gradient_accumulation)
    batch = min(batch, num_examples)
    examples = SkippingDataset(data.mixture, broken, components.check)
    seconds, timed, peak = _measure(components, examples, batch, optimizer)
    return Plan(
        groups=tuple(groups),
        frozen=parameters - trained,
        examples=num_examples,
        steps_per_epoch=per_epoch,
        steps=steps,
        state_bytes=BYTES * (copies * parameters + 3 * trained),
        batch=batch,
        seconds=seconds * recipe.run.gradient_accumulation,
        timed=timed,
        peak_bytes=peak,
        start_fraction=None if recipe.ema is None else start_fraction(steps, recipe.ema),
        notes=tuple(notes_of(recipe, components, data)),
    )


def _groups(model: nn.Module, settings: OptimizerSettings, schedule: Schedule, steps: int) -> list[Group]:
    points = [round(column * max(steps - 1, 0) / (COLUMNS - 1)) for column in range(COLUMNS)]
    groups = []
    for group in parameter_groups(model, settings):
        sizes = [parameter.numel() for parameter in group["params"]]
        rates = tuple(group["lr"] * schedule.factor(point, group["name"]) for point in points)
        groups.append(Group(group["name"], len(sizes), sum(sizes), group["lr"], rates))
    return groups


def _measure(
    components: Components, examples: SkippingDataset, batch_size: int, settings: OptimizerSettings
) -> tuple[float, int, int | None]:
    """Return the median seconds of some steps after a warm-up, their number, and the peak of GPU memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: nn.Module = components.model.to(device).train()
    # At a rate of 0 the optimizer does its work without changing the model
    groups = [group | {"lr": 0.0} for group in parameter_groups(model, settings)]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    examples.mixture.set_epoch(0)
    seconds: list[float] = []
    begun = time.perf_counter()
    for step in range(WARM_UP + TIMED):
        # Take other examples in each step, since batches differ in size; start over in a small set
        first, total = step * batch_size, len(examples.mixture)
        batch = components.collator([examples[index % total] for index in range(first, first + batch_size)])
        batch.pop("records")
        inputs = {name: _moved(value, device) for name, value in batch.items()}

        # Time the step
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
