"""The training loop, on Accelerate.

Read `TrainingLoop.run` from top to bottom: the parts of each step, in order. Accelerate connects the
processes that a launcher started, gives each its part of every batch, and wraps the model for them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from accelerate import Accelerator, DistributedType
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from transformers import PreTrainedModel

from mdetr.checkpoints.bars import without_bars
from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
from mdetr.errors import RecipeError, TrainingError
from mdetr.evaluation.evaluator import EVALUATED
from mdetr.files import atomic_write, replace_folder
from mdetr.modeling import MdetrForObjectDetection
from mdetr.settings import STRICT
from mdetr.training.build import Components, merge_lora
from mdetr.training.checkpoints import Checkpointer, RunState
from mdetr.training.datasets import EpochSampler, ShapeGroupedSampler
from mdetr.training.ema import EmaSettings, ExponentialMovingAverage, whole_state, whole_tensor
from mdetr.training.loader import make_loader, start_epoch
from mdetr.training.optimization import (
    EarlyStopper,
    EarlyStopping,
    OptimizerSettings,
    Schedule,
    ScheduleSettings,
    parameter_groups,
    total_steps,
)
from mdetr.training.progress import LossParts, Progress, Throughput
from mdetr.training.run_folder import unfinished_folder
from mdetr.training.skipping import RunData, SkippingDataset

BAD_BATCH_FILE = "bad_batch.json"
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}

Draw = Callable[[Any, int], object]
"""Draws sample predictions of a model at a step."""


@dataclass(frozen=True, config=STRICT)
class RunSettings:
    """Settings of the training loop and of what it writes; all intervals are in steps.

    Attributes:
        precision: Precision of the forward pass.
        compile: Compile the model with `torch.compile`.
        gradient_checkpointing: Recompute activations in the backward pass, for less memory and more time.
        sharding: "fsdp" shards weights, gradients and moments over the processes.
        timeout: Minutes after which a process that waits for another gives up.
        early_stopping: End the run when a score no longer rises.
        push_to_hub: Name of a repository on the Hub; model, report and recipe are uploaded to it at the end.
        trackers: Logs besides TensorBoard: "wandb", "mlflow", which must be installed.
        workers: Processes that read data, for each process that trains.
        log_every: Interval of logging.
        evaluate_every: Interval of evaluation.
        save_every: Interval of checkpoints.
        keep: Number of checkpoints to keep; at least two, since a run may be killed while it writes one.
        pictures: Images of each validation store whose predictions are drawn at an evaluation.
        gradient_accumulation: Forward passes whose gradients are added in a step.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    gradient_checkpointing: bool = False
    sharding: Literal["none", "fsdp"] = "none"
    timeout: PositiveFloat = 30.0
    early_stopping: EarlyStopping | None = None
    push_to_hub: str | None = None
    trackers: list[Literal["wandb", "mlflow"]] = field(default_factory=list)
    workers: NonNegativeInt = 2
    log_every: PositiveInt = 50
    evaluate_every: PositiveInt = 1000
    save_every: PositiveInt = 1000
    keep: Annotated[int, Field(ge=2)] = 2
    pictures: NonNegativeInt = 8
    gradient_accumulation: PositiveInt = 1


class TrainingLoop:
    """Trains a model.

    Args:
        accelerator: Accelerator of the processes that train together.
        components: The model, and all that makes its batches and evaluates it.
        folder: The run's folder.
        data: Examples to train and evaluate on.
        sampler: Order of the training examples; see `make_sampler`.
        optimizer: Settings of the optimizer.
        schedule: Settings of the learning rates.
        ema: Settings of the averaged weights; None for no average.
        run: Settings of the loop.
        draw: Function called with the model and the step after an evaluation, in the first process.
        progress: Progress display of the first process; None elsewhere.

    Raises:
        RecipeError: The batch does not divide evenly among the processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        components: Components,
        folder: Path,
        data: RunData,
        sampler: EpochSampler | ShapeGroupedSampler,
        *,
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        ema: EmaSettings | None,
        run: RunSettings,
        draw: Draw | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.accelerator, self.components, self.folder = accelerator, components, folder
        self.dataset, self.validations, self.sampler = data.mixture, data.validations, sampler
        self.settings, self.optimizer_settings = run, optimizer
        self.draw, self.progress = draw, progress
        self.state, self.throughput = RunState(), Throughput()
        config = getattr(components.model, "config", None)  # a baseline has none
        self.losses = LossParts(getattr(config, "answer_types", None) or ())

        # Load the data; each process gets its part of every batch
        self.batch_size = batch_per_process(
            optimizer.batch_size, run.gradient_accumulation, accelerator.num_processes
        )
        broken = BrokenExamples(folder / BROKEN_FILE)
        loader = make_loader(
            SkippingDataset(self.dataset, broken, components.check),
            sampler,
            components.collator,
            batch_size=optimizer.batch_size,
            batch_per_process=self.batch_size,
            workers=run.workers,
            pin_memory=accelerator.device.type == "cuda",
        )

        # Prepare the model and its optimizer
        model = components.model
        # Preparing the optimizer resets this type to that of the processes
        sharded = accelerator.distributed_type == DistributedType.FSDP
        if isinstance(model, MdetrForObjectDetection) and not sharded:  # faster convolutions
            nn.Module.to(model, memory_format=torch.channels_last)
            model.backbone.folds_norms = True
        adam = torch.optim.AdamW(
            parameter_groups(model, optimizer), weight_decay=optimizer.weight_decay, fused=True
        )
        self.base_rates = [group["lr"] for group in adam.param_groups]
        # A sharded model runs only in all processes together; this copy is evaluated and saved instead
        self._whole_copy = deepcopy(model).eval() if sharded else None
        self.model, self.optimizer, self.loader = accelerator.prepare(model, adam, loader)
        self.bare_model = cast(nn.Module, accelerator.unwrap_model(self.model))
        if run.compile:
            self.model.compile()
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=run.precision == "fp16")

        # Plan the steps and the learning rates
        self.steps_per_epoch = max(1, len(self.loader) // run.gradient_accumulation)
        self.total_steps = total_steps(optimizer, len(self.dataset))
        self.schedule = Schedule(schedule, self.steps_per_epoch, self.total_steps)

        # Average and save the weights
        self.ema = None if ema is None else ExponentialMovingAverage(self.bare_model, ema)
        self.checkpointer = Checkpointer(
            folder=folder,
            keep=run.keep,
            accelerator=accelerator,
            is_sharded=sharded,
            model=self.model,
            bare_model=self.bare_model,
            processor=components.processor,
            optimizer=self.optimizer,
            scaler=self.scaler,
            ema=self.ema,
        )

    def run(self, checkpoint: Path | None = None, stopper: EarlyStopper | None = None) -> None:
        """Train to the last step, or until the scores no longer rise.

        Args:
            checkpoint: Checkpoint to resume from; None to start.
            stopper: Decides after each evaluation whether to stop early; None to never stop early.

        Raises:
            TrainingError: The loss is not finite, too many examples are broken, or the disk is full.
        """
        if checkpoint is not None:
            self.state = self.checkpointer.load(checkpoint)
        settings, state = self.settings, self.state
        if self.progress is not None:
            self.progress.begin(state.step, self.total_steps)
        started = time.monotonic()
        self.model.train()
        stop = False
        for micro_batches in self._batches():
            # Set the learning rates
            for group, base_rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                group["lr"] = base_rate * self.schedule.factor(state.step, group["name"])

            # Forward and backward; processes exchange gradients after the last part of a batch
            for number, batch in enumerate(micro_batches, start=1):
                waits = number < len(micro_batches)
                with self.accelerator.no_sync(self.model) if waits else nullcontext():
                    loss = self._compute_loss(batch) / len(micro_batches)
                    self.accelerator.backward(self.scaler.scale(loss))

            # Clip the gradients and step
            self.scaler.unscale_(self.optimizer.optimizer)
            gradient_norm = self.accelerator.clip_grad_norm_(
                self.model.parameters(), self.optimizer_settings.max_gradient_norm
            )
            self.scaler.step(self.optimizer.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            state.step += 1

            # Average the weights
            if self.ema is not None:
                self.ema.update(self.bare_model)
            self.throughput.end_step()

            # Log, evaluate, save
            last = state.step == self.total_steps
            if state.step % settings.log_every == 0:
                self._log_training(gradient_norm)
            if self.validations and (last or state.step % settings.evaluate_every == 0):
                metrics = self.evaluate()
                stop = stopper is not None and stopper.should_stop(metrics, state.history)
                self.model.train()
            if last or stop or state.step % settings.save_every == 0:
                self.checkpointer.save(state)
            if stop:
                break
        self._log({"train_runtime": time.monotonic() - started})
        # Accelerate's end_training would disconnect the processes, which still have a model to save
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def evaluate(self) -> dict[str, float]:
        """Evaluate the averaged weights on every validation store, and log the scores.

        Returns:
            Scores by name, each with the prefix "eval_" and the name of its store.

        Raises:
            TrainingError: Too much of a store cannot be read; a checkpoint has been written.
        """
        metrics: dict[str, float] = {}
        try:
            with self._averaged() as model, self._autocast():
                for name, validation in self.validations.items():
                    scores = self.components.evaluate(model, validation, self.batch_size, self.accelerator)
                    metrics |= {f"{EVALUATED}{name}_{key}": value for key, value in scores.items()}
                if self.draw is not None and self.accelerator.is_main_process:
                    self.draw(model, self.state.step)
        except TrainingError as error:
            self.checkpointer.save(self.state)
            raise TrainingError(f"{error} The weights are saved; continue with --resume.") from None
        self._log(metrics)
        return metrics

    def save_averaged(self, folder: Path) -> None:
        """Write the averaged model and its processor.

        Args:
            folder: Folder to write, from which `from_pretrained` loads them; it is replaced if it exists.
        """
        with self._averaged() as model:
            if self.accelerator.is_main_process:
                # Replace an earlier model only when the new one is complete
                new = unfinished_folder(folder)
                try:
                    with without_bars():
                        cast(PreTrainedModel, merge_lora(model)).save_pretrained(new)
                    self.components.processor.save_pretrained(new)
                    replace_folder(new, folder)
                finally:
                    shutil.rmtree(new, ignore_errors=True)

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        """Iterate over the parts of each step's batch until the last step."""
        parts = self.settings.gradient_accumulation
        while self.state.step < self.total_steps:
            # Start an epoch, and skip the batches of a resumed one
            epoch, done = divmod(self.state.step, self.steps_per_epoch)
            self.dataset.set_epoch(epoch)
            loader = start_epoch(
                self.loader, self.sampler, epoch, done * parts, done * self.optimizer_settings.batch_size
            )

            # Iterate over the others
            batches = iter(loader)
            for _ in range(min(self.steps_per_epoch - done, self.total_steps - self.state.step)):
                with self.throughput.waiting():
                    micro_batches = list(islice(batches, parts))
                yield micro_batches

    def _compute_loss(self, batch: dict[str, Any]) -> Tensor:
        """Compute the weighted loss of a batch, and add its terms to the log.

        Args:
            batch: Inputs of the model, and the "records" they are made from.

        Returns:
            The loss, a scalar.

        Raises:
            TrainingError: It is not finite; the ids of the records are written to the run's folder.
        """
        records = batch.pop("records")
        self.throughput.count(batch)
        try:
            with self._autocast():
                output = self.model(**batch)
            if not torch.isfinite(output.loss):
                raise TrainingError(f"The loss is {output.loss.item()}.")
        except TrainingError as error:
            raise TrainingError(self._write_bad_batch(records, str(error))) from None
        self.losses.add({"loss": output.loss.detach(), **output.losses}, batch.get("targets") or {})
        return cast(Tensor, output.loss)

    def _write_bad_batch(self, records: Sequence[Any], reason: str) -> str:
        """Write the ids of a batch to the run's folder, and return the message of the error."""
        path = self.folder / BAD_BATCH_FILE
        ids = [{"source": record.source, "split": record.split, "id": record.id} for record in records]
        content = {"step": self.state.step, "reason": reason, "records": ids}
        with atomic_write(path) as file:
            file.write_text(json.dumps(content, indent=1))
        return (
            f"Training stopped at step {self.state.step}: {reason} The batch's ids are in {path} and "
            "the last checkpoint is kept: lower the learning rate, or check the records, and use --resume."
        )

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = PRECISIONS.get(self.settings.precision)
        return nullcontext() if dtype is None else torch.autocast(self.accelerator.device.type, dtype)

    def _log_training(self, gradient_norm: Tensor | float | None) -> None:
        """Log the average losses and throughput since the last call, and the rates of the step before."""
        values = self.losses.read(self.accelerator)
        if isinstance(gradient_norm, Tensor):
            gradient_norm = whole_tensor(gradient_norm).item()
        if gradient_norm is not None:
            values["grad_norm"] = gradient_norm
        values |= {f"lr_{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        self._log(values | self.throughput.read(self.accelerator.num_processes))

    def _log(self, values: Mapping[str, float]) -> None:
        state = self.state
        epoch = state.step / self.steps_per_epoch
        state.history.append({**values, "epoch": epoch, "step": state.step})
        self.accelerator.log({_tag(name): value for name, value in values.items()}, step=state.step)
        if self.progress is not None:
            self.progress.log(state.step, values)

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        """Give the model its averaged weights, if there are any, gathered in every process."""
        if self._whole_copy is not None:
            weights = whole_state(self.bare_model) if self.ema is None else self.ema.whole()
            self._whole_copy.to(self.accelerator.device).load_state_dict(weights)
            yield self._whole_copy
        elif self.ema is not None:
            with self.ema.applied_to(self.bare_model):
                yield self.bare_model
        else:
            yield self.bare_model


def batch_per_process(batch_size: int, gradient_accumulation: int, num_processes: int) -> int:
    """Divide a batch among processes.

    Args:
        batch_size: Examples over all processes in a step.
        gradient_accumulation: Forward passes of each process in a step.
        num_processes: Number of processes.

    Returns:
        Examples of each process in one forward pass.

    Raises:
        RecipeError: The batch does not divide evenly.
    """
    size, rest = divmod(batch_size, num_processes * gradient_accumulation)
    if rest or not size:
        raise RecipeError(
            f"optimizer.batch_size {batch_size} does not divide into {num_processes} processes with "
            f"{gradient_accumulation} accumulated steps each."
        )
    return size


def _tag(name: str) -> str:
    """Return the name of a logged value in TensorBoard, where evaluation and training are separate groups."""
    return f"eval/{name.removeprefix(EVALUATED)}" if name.startswith(EVALUATED) else f"train/{name}"
