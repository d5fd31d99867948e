"""A training run, from recipe to trained model."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import FullyShardedDataParallelPlugin, broadcast_object_list, set_seed
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from mdetr.data.augmentation.pipelines import FixedSizeAugmentation
from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
from mdetr.data.held_out import check_stores
from mdetr.errors import MdetrError, RecipeError, TrainingError, first_line
from mdetr.files import atomic_write, full_disk
from mdetr.training.build import Components, build_components
from mdetr.training.datasets import import_own_data, make_sampler
from mdetr.training.ema import start_fraction_warning
from mdetr.training.loop import RunSettings, TrainingLoop
from mdetr.training.optimization import EarlyStopper, total_steps
from mdetr.training.progress import Progress
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import check_files, to_yaml
from mdetr.training.report import PredictionPictures, write_report
from mdetr.training.resuming import changed_settings
from mdetr.training.run_folder import (
    MODEL_FOLDER,
    check_run_folder,
    last_checkpoint,
    remove_unfinished,
    used_alone,
)
from mdetr.training.skipping import RunData, prepare_data

RECIPE_FILE, METRICS_FILE, REPORT_FILE = "recipe.yaml", "metrics.json", "report.html"
LOG_FOLDER = "logs"
RESUME = "the last checkpoint is kept; continue with --resume"

_WORKER_ERROR = re.compile(
    r"Caught \w+ in DataLoader worker.*^(?:[\w.]+Error): (?P<reason>[^\n]+)\s*\Z", re.DOTALL | re.MULTILINE
)
_DEAD_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)")
_SILENT = re.compile(r"Timed out waiting|Connection (closed|reset) by peer|Connection closed|timeout", re.I)

# OSError, and all errors of whichever HTTP library the Hub's client uses
_HUB_ERRORS: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, ValueError)


MAX_SIZE_DIFFERENCE = 0.1
"""Largest relative difference between the image sizes of training and prediction without a warning."""


def train(recipe: Recipe, output: Path, resume: bool = False) -> Path:
    """Train a model by a recipe.

    Args:
        recipe: All settings.
        output: The run's folder.
        resume: Whether to resume from the last checkpoint in the folder.

    Returns:
        The folder of the trained model (its averaged weights, if the recipe has an average).

    Raises:
        RecipeError: A file that the recipe names is missing.
        TrainingError: The folder already holds a run, is in use or cannot be written, or the loss is not
            finite.
        CheckpointError: There is nothing to resume from.
    """
    # Check what can be checked before anything is loaded
    check_files(recipe)
    check_stores([*recipe.data.train, *recipe.data.validation.values()])
    check_run_folder(output, resume)

    # Connect the processes; Accelerate takes the timeout from the first state only
    timeout = timedelta(minutes=recipe.run.timeout)
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timeout)
    with explained(recipe.run.timeout), _used_alone(output, state):
        check_run_folder(output, resume)  # another run may have ended meanwhile
        return _train(recipe, output, last_checkpoint(output) if resume else None, state)


@contextmanager
def _used_alone(folder: Path, state: PartialState) -> Iterator[None]:
    """Let one run use a folder, and clear away what a killed one has left; the first process does it for all.

    Args:
        folder: The run's folder.
        state: The processes of the run.

    Raises:
        TrainingError: Another run uses the folder.
    """
    with ExitStack() as stack:
        problem: list[str | None] = [None]
        if state.is_main_process:
            try:
                stack.enter_context(used_alone(folder))
                remove_unfinished(folder)
            except TrainingError as error:
                problem = [str(error)]
        (reason,) = broadcast_object_list(problem)
        if reason is not None:
            raise TrainingError(reason)
        yield


def _train(recipe: Recipe, output: Path, checkpoint: Path | None, state: PartialState) -> Path:
    """Train a model in a folder that no other run uses, and return the model's folder."""
    with state.main_process_first():  # the others reuse the stores that it makes
        recipe = replace(recipe, data=import_own_data(recipe.data, output))
    changes = [] if checkpoint is None else changed_settings(output / RECIPE_FILE, recipe)
    if recipe.run.push_to_hub is not None and state.is_main_process:
        make_repository(recipe.run.push_to_hub)

    # Build the model and open the data
    set_seed(recipe.seed)
    components = build_components(
        recipe.model, recipe.image, recipe.data, recipe.run.gradient_checkpointing, checkpoint
    )
    with state.main_process_first():  # the others reuse its list of broken examples
        broken = BrokenExamples(output / BROKEN_FILE)
        data = prepare_data(recipe.data, components, recipe.seed, broken)
    progress = Progress()
    if state.is_main_process:
        for note in [*changes, *notes_of(recipe, components, data)]:
            progress.note(note)

    # Set up the loop
    accelerator = make_accelerator(components.model, recipe.run, output)
    main = accelerator.is_main_process
    pictures = PredictionPictures(
        output / "pictures",
        data.validations,
        0 if recipe.model.baseline else recipe.run.pictures,  # a baseline has no words to draw
        accelerator.get_tracker("tensorboard", unwrap=True),
    )
    batch_size = recipe.optimizer.batch_size
    loop = TrainingLoop(
        accelerator,
        components,
        output,
        data,
        make_sampler(data.mixture, recipe.data, batch_size, recipe.seed, components.resized),
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
            with atomic_write(output / METRICS_FILE) as file:
                file.write_text(json.dumps(metrics, indent=1))

    # Train, and keep the best or else the last model
    stopping = recipe.run.early_stopping
    with progress:
        if main:
            with atomic_write(output / RECIPE_FILE) as file:
                file.write_text(to_yaml(recipe))
        loop.run(checkpoint, None if stopping is None else EarlyStopper(stopping, keep))
        if stopping is None:
            keep(loop.state.last_metrics())

    # Report
    if main:
        report = output / REPORT_FILE
        write_report(report, output.name, loop.state.history, to_yaml(recipe), pictures.last())
        if recipe.run.push_to_hub is not None:
            others = [output / RECIPE_FILE, output / METRICS_FILE, report]
            push(recipe.run.push_to_hub, output / MODEL_FOLDER, others)
    return output / MODEL_FOLDER


def notes_of(recipe: Recipe, components: Components, data: RunData) -> list[str]:
    """Collect what a user should read before a run starts.

    Args:
        recipe: Settings of the run.
        components: Model and processor of the run.
        data: Data of the run.

    Returns:
        The notes, a sentence each.
    """
    notes = list(data.notes)
    if recipe.ema is not None:
        steps = total_steps(recipe.optimizer, len(data.mixture))
        warning = start_fraction_warning(steps, recipe.ema)
        notes += [] if warning is None else [warning]
    warning = image_size_warning(recipe.data.augmentation, components)
    return notes if warning is None else [*notes, warning]


def image_size_warning(augmentation: object, components: Components) -> str | None:
    """Return a warning if images are trained at another size than the model evaluates and predicts at.

    A model that was trained at one size places boxes less precisely at another.

    Args:
        augmentation: Settings of the augmentation; only those with a fixed size are compared.
        components: Model and processor of the run.

    Returns:
        The warning, or None if there is no reason for one.
    """
    if not isinstance(augmentation, FixedSizeAugmentation):
        return None
    trained = (augmentation.height, augmentation.width)
    predicted = components.resized(trained)
    if max(abs(a - b) / b for a, b in zip(trained, predicted, strict=True)) <= MAX_SIZE_DIFFERENCE:
        return None
    return (
        f"Warning: images are trained at {trained[0]} x {trained[1]} pixels (height x width), but the model "
        f"evaluates and predicts at {predicted[0]} x {predicted[1]}: set image.shortest_edge={min(trained)} "
        f"and image.longest_edge={max(trained)}."
    )


def make_accelerator(model: nn.Module, settings: RunSettings, folder: Path) -> Accelerator:
    """Make the accelerator of a run, which connects the processes that a launcher has started.

    The training loop sets the precision: Accelerate allows only one in the life of a process.

    Args:
        model: Model to train; its repeated layers are sharded one by one.
        settings: Precision, sharding and trackers.
        folder: The run's folder, in which TensorBoard's log is written.

    Returns:
        The accelerator, with its trackers started.

    Raises:
        RecipeError: The machine cannot train in the precision, or a tracker is not installed.
    """
    # Check the machine
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and settings.precision == "fp16":
        raise RecipeError("run.precision: fp16 trains on a GPU only; use bf16 or fp32 here.")
    missing = [name for name in settings.trackers if find_spec(name) is None]
    if missing:
        raise RecipeError(f"run.trackers: {missing[0]} is not installed: pip install {missing[0]}.")

    # Parameters of masks have no gradient in a batch without masks; DDP cannot look for such parameters while
    # activations are recomputed
    find_unused = not settings.gradient_checkpointing
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no",
        log_with=[TensorBoardTracker(LOG_FOLDER, folder), *settings.trackers],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused)],
    )
    accelerator.init_trackers("mdetr", init_kwargs={"wandb": {"name": folder.name}})
    if settings.sharding == "fsdp" and accelerator.num_processes > 1:
        # Accelerate's constructor would shard on accelerators only
        accelerator.state.fsdp_plugin = _sharding(model)
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def _sharding(model: nn.Module) -> FullyShardedDataParallelPlugin:
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=sorted({type(layer).__name__ for layer in layers}),
        cpu_ram_efficient_loading=False,
        state_dict_type="SHARDED_STATE_DICT",
        reshard_after_forward=True,
    )


@contextmanager
def explained(timeout: float) -> Iterator[None]:
    """Explain failures from outside in one sentence: dead workers, full memory or disks, lost processes.

    Args:
        timeout: Minutes after which a process stops waiting for another.

    Raises:
        TrainingError: In place of a library's error, if it is a known one.
    """
    try:
        with _without_full_disk_in_threads():
            yield
    except (RuntimeError, OSError, ValueError, EOFError, SafetensorError) as error:
        reason = _explain(error, timeout)
        if reason is None:
            raise
        raise TrainingError(reason) from error


@contextmanager
def _without_full_disk_in_threads() -> Iterator[None]:
    """Print no traceback of a thread that cannot write; TensorBoard raises its error at the next value."""
    hook = threading.excepthook

    def print_others(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is None or full_disk(arguments.exc_value) is None:
            hook(arguments)

    threading.excepthook = print_others
    try:
        yield
    finally:
        threading.excepthook = hook


def _explain(error: Exception, timeout: float) -> str | None:
    text = str(error)
    if inner := _WORKER_ERROR.search(text):
        return inner["reason"]
    if isinstance(error, MdetrError):
        return None
    # Python connections are pipes to workers; the processes of a run use none among each other
    if _DEAD_WORKER.search(text) or isinstance(error, (ConnectionError, EOFError)):
        return (
            "A process that reads data died, most often for lack of memory: set run.workers lower "
            f"({RESUME})."
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "The GPU's memory is full: raise run.gradient_accumulation, or set run.precision=bf16 or "
            f"run.gradient_checkpointing=true ({RESUME})."
        )
    if (reason := full_disk(error)) is not None:
        return f"A file could not be written ({reason}): make room on the disk ({RESUME})."
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and _SILENT.search(text):
        return (
            f"Another process of the run died, or did not respond for {timeout:g} minutes (run.timeout): "
            f"look at what it printed last ({RESUME})."
        )
    return None


def make_repository(name: str) -> None:
    """Make sure that a repository on the Hub exists and can be written to, before a run starts.

    Args:
        name: Name of the repository.

    Raises:
        RecipeError: It cannot be created, or the Hub cannot be reached.
    """
    try:
        HfApi().create_repo(name, exist_ok=True)
    except _HUB_ERRORS as error:
        raise RecipeError(
            f"run.push_to_hub: {name} cannot be created on the Hub ({first_line(error).rstrip('.')}); "
            "log in with 'hf auth login', or leave it out."
        ) from None


def push(name: str, model: Path, others: list[Path]) -> str:
    """Upload a model's folder and other files, in one commit each.

    Args:
        name: Name of the repository on the Hub.
        model: Folder of the model.
        others: Files to put beside it.

    Returns:
        The address of the repository.

    Raises:
        TrainingError: The upload failed; the local files are kept.
    """
    api = HfApi()
    try:
        url = api.upload_folder(repo_id=name, folder_path=model, commit_message="Add the model")
        for file in others:
            api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id=name)
    except _HUB_ERRORS as error:
        raise TrainingError(
            f"The model is in {model}, but could not be pushed to {name} ({first_line(error).rstrip('.')}); "
            f"try hf upload {name} {model}"
        ) from None
    return str(url.repo_url)
