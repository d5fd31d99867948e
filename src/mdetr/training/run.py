"""A training run, from recipe to trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from mdetr.data.skipping import BROKEN_FILE, BrokenExamples
from mdetr.training.distributed import make_accelerator, tensorboard_writer
from mdetr.training.early_stopping import EarlyStopper
from mdetr.training.failures import explained
from mdetr.training.hub import make_repository, push
from mdetr.training.learner import make_learner
from mdetr.training.loop import TrainingLoop
from mdetr.training.own_data import import_own_data
from mdetr.training.pictures import PredictionPictures
from mdetr.training.preparation import prepare_data
from mdetr.training.progress import Progress
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import check_files, to_yaml
from mdetr.training.report import write_report
from mdetr.training.run_folder import check_run_folder, last_checkpoint

RECIPE_FILE, METRICS_FILE, REPORT_FILE, MODEL_FOLDER = "recipe.yaml", "metrics.json", "report.html", "model"


def train(recipe: Recipe, output: Path, resume: bool = False) -> Path:
    """Train by a recipe.

    Args:
        recipe: all settings. output: the run's folder. resume: whether to go on from its last checkpoint.

    Returns:
        The folder of the trained model (its averaged weights, where the recipe keeps an average).

    Raises:
        RecipeError: a file that the recipe names is missing.
        TrainingError: the folder holds another run already or cannot be written, or the loss is not finite.
        CheckpointError: there is nothing to resume from.
    """
    check_files(recipe)
    check_run_folder(output, resume)
    # The first state connects the processes, and it alone is told the timeout
    state = PartialState(
        cpu=not torch.accelerator.is_available(), timeout=timedelta(minutes=recipe.run.timeout)
    )
    with state.main_process_first():  # the others find what it made
        recipe = import_own_data(recipe, output)
    checkpoint = last_checkpoint(output) if resume else None
    output.mkdir(parents=True, exist_ok=True)
    if recipe.run.push_to_hub is not None and state.is_main_process:
        make_repository(recipe.run.push_to_hub)
    set_seed(recipe.seed)
    learner = make_learner(recipe, checkpoint)
    progress = Progress()
    say = progress.note if state.is_main_process else _say_nothing
    with state.main_process_first():  # the others find what it listed
        data = prepare_data(recipe, learner, say, BrokenExamples(output / BROKEN_FILE))
    accelerator = make_accelerator(learner.model, recipe, output)
    count = 0 if recipe.model.baseline else recipe.run.pictures  # of texts with the words of each box
    pictures = PredictionPictures(
        output / "pictures", data.validations, count, tensorboard_writer(accelerator)
    )
    main = accelerator.is_main_process
    loop = TrainingLoop(
        accelerator,
        learner,
        recipe,
        output,
        data.mixture,
        data.validations,
        draw=pictures,
        progress=progress if main else None,
    )

    def keep(metrics: Mapping[str, float]) -> None:
        loop.save_averaged(output / MODEL_FOLDER)
        if main:
            (output / METRICS_FILE).write_text(json.dumps(metrics, indent=1))

    stopping = recipe.run.early_stopping
    with progress, explained(recipe.run.timeout):
        if main:
            (output / RECIPE_FILE).write_text(to_yaml(recipe))
        loop.run(checkpoint, None if stopping is None else EarlyStopper(stopping, keep))
        if stopping is None:
            keep(loop.state.last_metrics())
    if main:
        report = output / REPORT_FILE
        last = {name: found[-1] for name in data.validations if (found := pictures.drawn(name))}
        write_report(report, output.name, loop.state.history, to_yaml(recipe), last)
        if recipe.run.push_to_hub is not None:
            others = [output / RECIPE_FILE, output / METRICS_FILE, report]
            push(recipe.run.push_to_hub, output / MODEL_FOLDER, others)
    return output / MODEL_FOLDER


def _say_nothing(note: str) -> None:
    """What a process other than the first says."""
