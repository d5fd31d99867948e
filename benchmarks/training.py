"""Training by a recipe against the same model in a plain PyTorch loop; waiting for data; the average's cost.

    python benchmarks/training.py [--steps 40] [--recipe clevr-tiny] [--scenes 128]

The data are scenes generated for it. Both sides read them with as many workers, augment, collate, run
forwards and backwards, clip gradients and step AdamW; `mdetr train` also averages weights, checks losses,
counts and logs. The two take turns, since a machine's speed changes. All figures leave out the first steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from torch.utils.data import DataLoader

from mdetr.data.held_out import TrainStore
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import write_store
from mdetr.synthetic_clevr.synthesize import SynthesisOptions, synthesize
from mdetr.training.build import Components, build_components
from mdetr.training.datasets import make_sampler, training_data
from mdetr.training.ema import ExponentialMovingAverage
from mdetr.training.loop import TrainingLoop
from mdetr.training.optimization import parameter_groups
from mdetr.training.progress import Progress
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import load_recipe
from mdetr.training.run import make_accelerator
from mdetr.training.skipping import RunData

WARM_UP = 5  # steps that do not count
TURNS = 3


class Clock(Progress):
    """Hears of each step, and of the waiting for data that is logged."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.ends: list[float] = []
        self.waits: list[float] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Note the time of a step's end."""
        if "data_wait" in values:
            self.ends.append(time.perf_counter())
            self.waits.append(values["data_wait"])


def components_of(recipe: Recipe) -> Components:
    """The model of a recipe, and all that makes its batches."""
    return build_components(recipe.model, recipe.image, recipe.data, recipe.run.gradient_checkpointing)


def with_mdetr(recipe: Recipe, folder: Path) -> tuple[list[float], float]:
    """Seconds of each step of a run, and the share of them in which it waited for data."""
    components = components_of(recipe)
    dataset = training_data(recipe.data, recipe.seed)
    batch_size = recipe.optimizer.batch_size
    loop = TrainingLoop(
        make_accelerator(components.model, recipe.run, folder),
        components,
        folder,
        RunData(dataset, {}),
        make_sampler(dataset, recipe.data, batch_size, recipe.seed, components.resized),
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        ema=recipe.ema,
        run=recipe.run,
        progress=(clock := Clock()),
    )
    loop.run()
    return differences(clock.ends), median(clock.waits[1:])


def with_a_plain_loop(recipe: Recipe) -> list[float]:
    """Seconds of each step of a loop that does no more than it must."""
    components = components_of(recipe)
    model = components.model.to(memory_format=torch.channels_last).train()  # as the trainer has it
    settings = recipe.optimizer
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    data = training_data(recipe.data, recipe.seed)
    data.set_epoch(0)
    loader = DataLoader(
        data,
        settings.batch_size,
        shuffle=True,
        collate_fn=components.collator,
        num_workers=recipe.run.workers,
        persistent_workers=recipe.run.workers > 0,
        drop_last=True,
    )
    ends = []
    for batch in islice(cycle_of(loader), settings.steps):
        batch.pop("records")
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return differences(ends)


def cycle_of(loader: DataLoader) -> object:
    """The batches of one epoch after another."""
    return (batch for epoch in cycle([loader]) for batch in epoch)


def differences(ends: list[float]) -> list[float]:
    """The times between the ends of steps, without those of the first."""
    return [later - sooner for sooner, later in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]


def seconds_of_average(components: Components, recipe: Recipe) -> float:
    """The median time of moving the averaged weights by one step."""
    assert recipe.ema is not None
    average = ExponentialMovingAverage(components.model, recipe.ema)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        average.update(components.model)
        times.append(time.perf_counter() - start)
    return median(times)


def make_store(folder: Path, scenes: int) -> Path:
    """A store of generated scenes."""
    synthesize(folder / "shapes", scenes, SynthesisOptions(seed=1))
    write_store(folder / "store", read_clevr(folder / "shapes", "train"), folder / "shapes")
    return folder / "store"


def main() -> None:
    """Let both take turns, and print seconds and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=40, help="of each turn")
    parser.add_argument("--recipe", default="clevr-tiny")
    parser.add_argument("--scenes", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name), arguments.scenes)
        recipe = load_recipe(arguments.recipe)
        recipe = replace(
            recipe,
            data=replace(recipe.data, train=[TrainStore(store)], validation={}),
            optimizer=replace(recipe.optimizer, steps=arguments.steps, epochs=None),
            run=replace(recipe.run, log_every=1, save_every=10**9),
        )
        ours, plain, waits = list[float](), list[float](), list[float]()
        for turn in range(TURNS):
            plain += with_a_plain_loop(recipe)
            times, wait = with_mdetr(recipe, Path(name) / f"run{turn}")
            ours, waits = ours + times, [*waits, wait]
        average = seconds_of_average(components_of(recipe), recipe)
    images = recipe.optimizer.batch_size
    turns = f"{TURNS} turns of {arguments.steps} steps"
    print(f"{torch.get_num_threads()} threads, {images} images a step, {turns}")
    print(f"plain loop:   {median(plain):.3f} s a step, {images / median(plain):.1f} images/s")
    print(f"mdetr train:  {median(ours):.3f} s a step, {images / median(ours):.1f} images/s")
    print(f"ratio of speeds:           {median(plain) / median(ours):.3f}")
    print(f"share of waiting for data: {median(waits):.2%}")
    print(f"averaging of the weights:  {average * 1e3:.2f} ms, {average / median(ours):.2%} of a step")


if __name__ == "__main__":
    main()
