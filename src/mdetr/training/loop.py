"""The training loop, on Accelerate.

`TrainingLoop.run` is to be read from top to bottom: what each step does, in order. Accelerate starts from the
processes that a launcher made, gives each its part of every batch, and wraps the model for them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import load_fsdp_optimizer, save_fsdp_optimizer
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as pydantic_dataclass
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from mdetr.checkpoints.bars import without_bars
from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
from mdetr.errors import RecipeError, TrainingError
from mdetr.evaluation.evaluator import EVALUATED, Validation
from mdetr.files import give_ordinary_permissions
from mdetr.settings import STRICT
from mdetr.training.build import Components
from mdetr.training.datasets import Mixture
from mdetr.training.early_stopping import EarlyStopper, EarlyStopping
from mdetr.training.ema import EmaSettings, ExponentialMovingAverage, copy_tensors, whole_tensor
from mdetr.training.failures import checkpoint_errors
from mdetr.training.lora import merge_lora
from mdetr.training.optimization import (
    OptimizerSettings,
    Schedule,
    ScheduleSettings,
    parameter_groups,
    total_steps,
)
from mdetr.training.progress import Progress
from mdetr.training.run_folder import COMPLETE
from mdetr.training.shape_grouping import EpochSampler, ShapeGroupedSampler
from mdetr.training.skipping import SkippingDataset
from mdetr.training.throughput import LossParts, Throughput

STATE_FILE, EMA_FILE, OPTIMIZER_FILE, SCALER_FILE = (
    "trainer_state.json",
    "ema.safetensors",
    "optimizer.pt",
    "scaler.pt",
)
WEIGHTS_FILE = "model.safetensors"
BAD_BATCH_FILE = "bad_batch.json"
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}

Draw = Callable[[Any, int], object]
"""Draws sample predictions of a model at a step."""


@pydantic_dataclass(frozen=True, config=STRICT)
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


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        step: Steps of the optimizer so far.
        history: The entries of the log, each with its step and its epoch.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def last_metrics(self) -> dict[str, float]:
        """The scores of the last evaluation; empty without one."""
        for entry in reversed(self.history):
            scores = {name: value for name, value in entry.items() if name.startswith(EVALUATED)}
            if scores:
                return scores
        return {}


class TrainingLoop:
    """Trains a model.

    Args:
        accelerator: Accelerator of the processes that train together; see `make_accelerator`.
        components: The model, and all that makes its batches and evaluates it.
        folder: The run's folder.
        dataset: Training examples.
        sampler: Order of the examples; see `make_sampler`.
        validations: Name -> data to evaluate on.
        optimizer: Settings of the optimizer.
        schedule: Settings of the learning rates.
        ema: Settings of the averaged weights; None for no average.
        run: Settings of the loop.
        draw: Called with the model and the step after an evaluation, in the first process.
        progress: Progress display of the first process; None elsewhere.

    Raises:
        RecipeError: The batch does not divide evenly among the processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        components: Components,
        folder: Path,
        dataset: Mixture,
        sampler: EpochSampler | ShapeGroupedSampler,
        validations: Mapping[str, Validation],
        *,
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        ema: EmaSettings | None,
        run: RunSettings,
        draw: Draw | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.components, self.folder, self.settings = components, folder, run
        self.dataset, self.sampler, self.validations = dataset, sampler, validations
        self.draw, self.progress = draw, progress
        self.state, self.throughput = RunState(), Throughput()
        config = getattr(components.model, "config", None)  # a baseline has none
        self.losses = LossParts(getattr(config, "answer_types", None) or ())
        sharded = accelerator.distributed_type == DistributedType.FSDP
        self.batch_size = batch_per_process(
            optimizer.batch_size, run.gradient_accumulation, accelerator.num_processes
        )
        self.step_size = optimizer.batch_size
        self.max_gradient_norm = optimizer.max_gradient_norm

        # Load the data; each process gets its part of every batch
        loader = DataLoader(
            SkippingDataset(dataset, BrokenExamples(folder / BROKEN_FILE), components.check),
            self.batch_size,
            sampler=sampler,
            collate_fn=components.collator,
            num_workers=run.workers,
            persistent_workers=run.workers > 0,
            pin_memory=accelerator.device.type == "cuda",
            # An incomplete batch is left out, unless there is no other
            drop_last=len(dataset) >= optimizer.batch_size,
            generator=torch.Generator(),  # so that a resumed run draws no other numbers than one that went on
        )

        # Prepare the model and its optimizer
        model = components.model
        if isinstance(model, PreTrainedModel) and not sharded:
            nn.Module.to(model, memory_format=torch.channels_last)  # faster convolutions
        adam = torch.optim.AdamW(
            parameter_groups(model, optimizer), weight_decay=optimizer.weight_decay, fused=True
        )
        self.base_rates = [group["lr"] for group in adam.param_groups]
        # What is evaluated and saved of a sharded model, whose shards only all processes together can run
        self._whole_copy = deepcopy(model).eval() if sharded else None
        self.model, self.optimizer, self.loader = accelerator.prepare(model, adam, loader)
        self.bare_model = cast(nn.Module, accelerator.unwrap_model(self.model))
        if run.compile:
            self.model.compile()
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=run.precision == "fp16")

        # Plan the steps and the learning rates
        self.steps_per_epoch = max(1, len(self.loader) // run.gradient_accumulation)
        self.total_steps = total_steps(optimizer, len(dataset))
        self.schedule = Schedule(schedule, self.steps_per_epoch, self.total_steps)
        self.ema: ExponentialMovingAverage | None = None
        if ema is not None:
            self.ema = ExponentialMovingAverage(self.bare_model, ema.decay, ema.ramp)

    def run(self, checkpoint: Path | None = None, stopper: EarlyStopper | None = None) -> None:
        """Train to the last step, or until the scores no longer rise.

        Args:
            checkpoint: Where to resume from.
            stopper: Looks at each evaluation.

        Raises:
            TrainingError: The loss is not finite, too many examples are broken, or the disk is full.
        """
        settings, state = self.settings, self.state
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)
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
            gradient_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm)
            self.scaler.step(self.optimizer.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            state.step += 1
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
                self.save_checkpoint()
            if stop:
                break
        self._log({"train_runtime": time.monotonic() - started})
        # Accelerate's own end of training would part the processes, who still have a model to save
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def evaluate(self) -> dict[str, float]:
        """Score the averaged weights on every validation store by its tasks, and log the scores.

        Raises:
            TrainingError: Too much of a store cannot be read; a checkpoint is written before.
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
            self.save_checkpoint()
            raise TrainingError(f"{error} What was learned is kept; continue with --resume.") from None
        self._log(metrics)
        return metrics

    def save_averaged(self, folder: Path) -> None:
        """Write the averaged model and its processor to a folder that `from_pretrained` reads."""
        with self._averaged() as model:
            if self.accelerator.is_main_process:
                new = folder.with_name(f"{folder.name}.new")
                with without_bars():
                    cast(PreTrainedModel, merge_lora(model)).save_pretrained(new)
                self.components.processor.save_pretrained(new)
                shutil.rmtree(folder, ignore_errors=True)
                new.rename(folder)

    def save_checkpoint(self) -> None:
        """Write all that a run needs to resume; the newest `run.keep` checkpoints stay.

        Raises:
            TrainingError: It cannot be written; the checkpoint before it is kept.
        """
        folder = self.folder / f"checkpoint-{self.state.step}"
        main = self.accelerator.is_main_process
        with checkpoint_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._save_model(folder)
            if self._whole_copy is not None:
                plugin = self.accelerator.state.fsdp_plugin
                save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, str(folder))
            elif main:
                torch.save(self.optimizer.state_dict(), folder / OPTIMIZER_FILE)
            if self.ema is not None:
                self.ema.save(folder / EMA_FILE, write=main)
            save_file(_random_states(), self._random_file(folder))
            if main:
                torch.save(self.scaler.state_dict(), folder / SCALER_FILE)
                content = {"global_step": self.state.step, "log_history": self.state.history}
                (folder / STATE_FILE).write_text(json.dumps(content, indent=1))
            self.accelerator.wait_for_everyone()
            if main:
                for weights in folder.glob("*.safetensors"):
                    give_ordinary_permissions(weights)
                (folder / COMPLETE).touch()
        if main:
            self._remove_old_checkpoints()

    def load_checkpoint(self, folder: Path) -> None:
        """Continue from a checkpoint that `save_checkpoint` wrote.

        Raises:
            CheckpointError: A file is missing, or belongs to another model.
        """
        if self._whole_copy is not None:
            plugin = self.accelerator.state.fsdp_plugin
            copy_tensors(load_file(folder / WEIGHTS_FILE), self.bare_model.state_dict())
            load_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, str(folder))
        else:
            load_model(self.bare_model, folder / WEIGHTS_FILE)
            self.optimizer.load_state_dict(
                torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
            )
        if self.ema is not None:
            self.ema.load(folder / EMA_FILE)
        self.scaler.load_state_dict(torch.load(folder / SCALER_FILE, weights_only=True))
        content = json.loads((folder / STATE_FILE).read_text())
        self.state.step, self.state.history = content["global_step"], content["log_history"]
        if self._random_file(folder).is_file():  # another number of processes has others
            _restore_random_states(load_file(self._random_file(folder)))

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        """The parts of each step's batch until the last step; a resumed run begins within its epoch."""
        parts = self.settings.gradient_accumulation
        while self.state.step < self.total_steps:
            epoch, done = divmod(self.state.step, self.steps_per_epoch)
            # The loader sets the sampler's epoch too, but finds it in some arrangements only
            for part in (self.dataset, self.sampler, self.loader):
                part.set_epoch(epoch)
            if isinstance(self.sampler, ShapeGroupedSampler):
                self.sampler.skip(done * self.step_size)
            loader = self.loader
            if done:
                loader = self.accelerator.skip_first_batches(loader, done * parts)
            batches = iter(loader)
            for _ in range(min(self.steps_per_epoch - done, self.total_steps - self.state.step)):
                with self.throughput.waiting():
                    micro_batches = list(islice(batches, parts))
                yield micro_batches

    def _compute_loss(self, batch: dict[str, Any]) -> Tensor:
        """The weighted loss of a batch; its terms are kept for the log.

        Raises:
            TrainingError: It is not finite. The ids of the batch are in the run's folder.
        """
        records = batch.pop("records")
        self.throughput.see(batch)
        try:
            with self._autocast():
                output = self.model(**batch)
            if not torch.isfinite(output.loss):
                raise TrainingError(f"The loss is {output.loss.item()}.")
        except TrainingError as error:
            raise TrainingError(self._keep_bad_batch(records, str(error))) from None
        self.losses.add({"loss": output.loss.detach(), **output.losses}, batch.get("targets") or {})
        return cast(Tensor, output.loss)

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = PRECISIONS.get(self.settings.precision)
        return nullcontext() if dtype is None else torch.autocast(self.accelerator.device.type, dtype)

    def _log_training(self, gradient_norm: Tensor | float | None) -> None:
        """Log what was averaged since the last time: losses, speed, and the rates of the step before."""
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
        """The model with its averaged weights, where it has them, whole in every process."""
        if self._whole_copy is not None:
            weights = _whole_state(self.bare_model) if self.ema is None else self.ema.whole()
            self._whole_copy.to(self.accelerator.device).load_state_dict(weights)
            yield self._whole_copy
        elif self.ema is not None:
            with self.ema.applied_to(self.bare_model):
                yield self.bare_model
        else:
            yield self.bare_model

    def _save_model(self, folder: Path) -> None:
        """Write the model so that `from_pretrained` reads it; a sharded one is put together for it."""
        model: nn.Module = self.bare_model
        weights = None if self._whole_copy is None else _whole_state(model)
        if not self.accelerator.is_main_process:
            return
        if isinstance(model, PreTrainedModel):
            with without_bars():
                model.save_pretrained(folder, state_dict=weights)
        else:
            save_model(model, str(folder / WEIGHTS_FILE))
        self.components.processor.save_pretrained(folder)

    def _remove_old_checkpoints(self) -> None:
        folders = [path.parent for path in self.folder.glob(f"checkpoint-*/{COMPLETE}")]
        folders.sort(key=lambda folder: int(folder.name.removeprefix("checkpoint-")))
        for folder in folders[: -self.settings.keep]:
            shutil.rmtree(folder)

    def _random_file(self, folder: Path) -> Path:
        return folder / f"random-{self.accelerator.process_index}.safetensors"

    def _keep_bad_batch(self, records: Sequence[Any], reason: str) -> str:
        path = self.folder / BAD_BATCH_FILE
        ids = [{"source": record.source, "split": record.split, "id": record.id} for record in records]
        path.write_text(json.dumps({"step": self.state.step, "reason": reason, "records": ids}, indent=1))
        return (
            f"Training stopped at step {self.state.step}: {reason} The batch's ids are in {path} and "
            "the last checkpoint is kept: lower the learning rate, or look at the records, and use --resume."
        )


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


def _whole_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole_tensor(tensor) for name, tensor in model.state_dict().items()}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _restore_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _tag(name: str) -> str:
    """The name of a logged value in TensorBoard, where evaluation and training have a group each."""
    return f"eval/{name.removeprefix(EVALUATED)}" if name.startswith(EVALUATED) else f"train/{name}"
