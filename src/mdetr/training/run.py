"""A training run, from recipe to trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
from mdetr.errors import RecipeError, TrainingError
from mdetr.training.build import build_components
from mdetr.training.distributed import make_accelerator, tensorboard_writer
from mdetr.training.early_stopping import EarlyStopper
from mdetr.training.failures import explained
from mdetr.training.loop import TrainingLoop
from mdetr.training.pictures import PredictionPictures
from mdetr.training.preparation import import_own_data, prepare_data
from mdetr.training.progress import Progress
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import check_files, to_yaml
from mdetr.training.report import write_report
from mdetr.training.run_folder import check_run_folder, last_checkpoint
from mdetr.training.shape_grouping import make_sampler

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
        recipe = replace(recipe, data=import_own_data(recipe.data, output))
    checkpoint = last_checkpoint(output) if resume else None
    output.mkdir(parents=True, exist_ok=True)
    if recipe.run.push_to_hub is not None and state.is_main_process:
        make_repository(recipe.run.push_to_hub)
    set_seed(recipe.seed)
    components = build_components(
        recipe.model, recipe.image, recipe.data, recipe.run.gradient_checkpointing, checkpoint
    )
    progress = Progress()
    say = progress.note if state.is_main_process else _say_nothing
    with state.main_process_first():  # the others find what it listed
        data = prepare_data(recipe, components, say, BrokenExamples(output / BROKEN_FILE))
    accelerator = make_accelerator(components.model, recipe.run, output)
    count = 0 if recipe.model.baseline else recipe.run.pictures  # of texts with the words of each box
    pictures = PredictionPictures(
        output / "pictures", data.validations, count, tensorboard_writer(accelerator)
    )
    main = accelerator.is_main_process
    loop = TrainingLoop(
        accelerator,
        components,
        output,
        data.mixture,
        make_sampler(data.mixture, recipe.data, recipe.optimizer.batch_size, recipe.seed, components.resized),
        data.validations,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        ema=recipe.ema,
        run=recipe.run,
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


# OSError, and all errors of whichever HTTP library the Hub's client uses
_ERRORS: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, ValueError)


def make_repository(name: str) -> None:
    """See that a repository is there and may be written to, before a run starts.

    Raises:
        RecipeError: it cannot be made, or the Hub cannot be reached.
    """
    try:
        HfApi().create_repo(name, exist_ok=True)
    except _ERRORS as error:
        raise RecipeError(
            f"run.push_to_hub: {name} cannot be made on the Hub ({_first_line(error)}); "
            "log in with 'hf auth login', or leave it out."
        ) from None


def push(name: str, model: Path, others: list[Path]) -> str:
    """Upload a model's folder, and other files beside it, in one commit each.

    Returns:
        The address of the repository.

    Raises:
        TrainingError: it did not work; nothing here is lost.
    """
    api = HfApi()
    try:
        url = api.upload_folder(repo_id=name, folder_path=model, commit_message="Add the model")
        for file in others:
            api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id=name)
    except _ERRORS as error:
        raise TrainingError(
            f"The model is in {model}, but could not be pushed to {name} ({_first_line(error)}); try "
            f"hf upload {name} {model}"
        ) from None
    return str(url.repo_url)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
