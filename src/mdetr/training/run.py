"""A training run, from recipe to trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback

from mdetr.errors import RecipeError
from mdetr.training.early_stopping import StopEarly
from mdetr.training.failures import explained
from mdetr.training.hub import make_repository, push
from mdetr.training.learner import make_learner
from mdetr.training.own_data import import_own_data
from mdetr.training.pictures import PredictionPictures
from mdetr.training.preparation import prepare_data
from mdetr.training.progress import Progress
from mdetr.training.recipe import Recipe, RunSettings, check_files, to_yaml
from mdetr.training.report import write_report
from mdetr.training.run_folder import check_run_folder, last_checkpoint
from mdetr.training.skipping import BROKEN_FILE, BrokenExamples
from mdetr.training.trainer import MdetrTrainer

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
    # the first state starts the talk between processes; on CPUs the Trainer's own would not tell the timeout
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
    writer = SummaryWriter(str(output / "logs")) if state.is_main_process else None
    count = 0 if recipe.model.baseline else recipe.run.pictures  # of texts with the words of each box
    pictures = PredictionPictures(output / "pictures", data.validations, count, writer)
    arguments = training_arguments(recipe, output)
    # an incomplete batch is left out, unless there is no other
    arguments.dataloader_drop_last = len(data.mixture) >= recipe.optimizer.batch_size
    trainer = MdetrTrainer(learner, recipe, arguments, data.mixture, data.validations, pictures)

    def keep(metrics: Mapping[str, float]) -> None:
        trainer.save_averaged(output / MODEL_FOLDER)
        if trainer.is_world_process_zero():
            (output / METRICS_FILE).write_text(json.dumps(metrics, indent=1))

    stopping = recipe.run.early_stopping
    with progress, explained(recipe.run.timeout):
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(progress)
        if writer is not None:
            trainer.add_callback(TensorBoardCallback(writer))
        if stopping is not None:
            trainer.add_callback(StopEarly(stopping, keep))
        if trainer.is_world_process_zero():
            (output / RECIPE_FILE).write_text(to_yaml(recipe))
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if stopping is None:
            keep(trainer.last_metrics())
    if trainer.is_world_process_zero():
        report = output / REPORT_FILE
        last = {name: found[-1] for name in data.validations if (found := pictures.drawn(name))}
        write_report(report, output.name, trainer.state.log_history, to_yaml(recipe), last)
        if recipe.run.push_to_hub is not None:
            others = [output / RECIPE_FILE, output / METRICS_FILE, report]
            push(recipe.run.push_to_hub, output / MODEL_FOLDER, others)
    return output / MODEL_FOLDER


def _say_nothing(note: str) -> None:
    """What a process other than the first says."""


def training_arguments(recipe: Recipe, output: Path) -> TrainingArguments:
    """Hugging Face's arguments for a recipe; the number of processes comes from the launcher."""
    run, optimizer = recipe.run, recipe.optimizer
    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=-1 if optimizer.steps is None else optimizer.steps,
        num_train_epochs=1 if optimizer.epochs is None else optimizer.epochs,
        gradient_accumulation_steps=run.gradient_accumulation,
        max_grad_norm=optimizer.max_gradient_norm,
        torch_compile=run.compile,
        fsdp=True if run.sharding == "fsdp" else None,  # type: ignore[arg-type]
        fsdp_config={"state_dict_type": "SHARDED_STATE_DICT"},
        ddp_timeout=round(60 * run.timeout),
        seed=recipe.seed,
        logging_steps=run.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if recipe.data.validation else "no",
        eval_steps=run.evaluate_every,
        save_strategy="steps",
        save_steps=run.save_every,
        save_total_limit=run.keep,
        dataloader_num_workers=run.workers,
        dataloader_persistent_workers=run.workers > 0,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.accelerator.is_available(),
        report_to=[],
        remove_unused_columns=False,
        label_names=["targets"],
        disable_tqdm=True,
        **_precision(run),
    )
    arguments._n_gpu = min(arguments._n_gpu, 1)  # a process has one; many are for a launcher to start
    arguments.per_device_train_batch_size = _share(recipe, arguments.world_size)
    arguments.per_device_eval_batch_size = arguments.per_device_train_batch_size
    return arguments


def _precision(run: RunSettings) -> dict[str, Any]:
    # without a GPU the Trainer allows bf16 only if it is told that this is meant
    return {
        "bf16": run.precision == "bf16",
        "fp16": run.precision == "fp16",
        "use_cpu": not torch.accelerator.is_available(),
    }


def _share(recipe: Recipe, num_processes: int) -> int:
    total, accumulation = recipe.optimizer.batch_size, recipe.run.gradient_accumulation
    share, rest = divmod(total, num_processes * accumulation)
    if rest or not share:
        raise RecipeError(
            f"optimizer.batch_size {total} does not divide into {num_processes} processes with "
            f"{accumulation} accumulated steps each."
        )
    return share
