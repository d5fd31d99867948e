"""Checkpoints of a run: all that it needs to resume with the same numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import load_fsdp_optimizer, save_fsdp_optimizer
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedModel

from mdetr.checkpoints.bars import without_bars
from mdetr.checkpoints.loading import not_finite
from mdetr.errors import CheckpointError, InvalidInputError, TrainingError, first_line
from mdetr.evaluation.evaluator import EVALUATED
from mdetr.files import full_disk, give_ordinary_permissions, read_json_object, replace_folder
from mdetr.training.ema import ExponentialMovingAverage, copy_tensors, whole_state
from mdetr.training.run_folder import COMPLETE, checkpoint_step, complete_checkpoints, unfinished_folder

STATE_FILE, EMA_FILE = "trainer_state.json", "ema.safetensors"
OPTIMIZER_FILE, SCALER_FILE = "optimizer.pt", "scaler.pt"
WEIGHTS_FILE = "model.safetensors"

_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW, for each weight
_ADVICE = "remove this folder to resume from the checkpoint before it"
_UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, LookupError, TypeError, AttributeError),
    *(UnpicklingError, SafetensorError, CheckpointException),
)


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        step: Steps of the optimizer so far.
        history: Entries of the log, each with its step and its epoch.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def last_metrics(self) -> dict[str, float]:
        """Return the scores of the last evaluation; empty without one."""
        for entry in reversed(self.history):
            scores = {name: value for name, value in entry.items() if name.startswith(EVALUATED)}
            if scores:
                return scores
        return {}


@dataclass
class Checkpointer:
    """Writes and reads the checkpoints of a run; all processes must call it together.

    Attributes:
        folder: The run's folder.
        keep: Number of checkpoints to keep.
        accelerator: Accelerator of the processes that train together.
        is_sharded: Whether the processes have shards of the model.
        model: The model as Accelerate prepared it.
        bare_model: The model within it.
        processor: The model's processor, which is saved with it.
        optimizer: The optimizer as Accelerate prepared it.
        scaler: Scaler of the loss.
        ema: Average of the weights; None for none.
    """

    folder: Path
    keep: int
    accelerator: Accelerator
    is_sharded: bool
    model: nn.Module
    bare_model: nn.Module
    processor: Any
    optimizer: AcceleratedOptimizer
    scaler: torch.amp.GradScaler
    ema: ExponentialMovingAverage | None

    def save(self, state: RunState) -> None:
        """Write a checkpoint, and remove the oldest.

        Args:
            state: How far the run is.

        Raises:
            TrainingError: It cannot be written; the checkpoint before it, if any, is kept.
        """
        target = self.folder / f"checkpoint-{state.step}"
        folder = unfinished_folder(target)
        main = self.accelerator.is_main_process
        with _removed_on_error(folder, target):
            folder.mkdir(parents=True, exist_ok=True)

            # Save what all processes hold parts of
            self._save_model(folder)
            self._save_optimizer(folder)
            if self.ema is not None:
                self.ema.save(folder / EMA_FILE, write=main)
            save_file(_random_states(), self._random_file(folder))

            # Save what is the same in all processes
            if main:
                torch.save(self.scaler.state_dict(), folder / SCALER_FILE)
                content = {"global_step": state.step, "log_history": state.history}
                (folder / STATE_FILE).write_text(json.dumps(content, indent=1))

            # The checkpoint appears when every process has written its files
            self.accelerator.wait_for_everyone()
            if main:
                for weights in folder.glob("*.safetensors"):
                    give_ordinary_permissions(weights)
                (folder / COMPLETE).touch()
                replace_folder(folder, target)
        if main:
            for old in sorted(complete_checkpoints(self.folder), key=checkpoint_step)[: -self.keep]:
                (old / COMPLETE).unlink()  # first: a run killed meanwhile leaves none that looks whole
                shutil.rmtree(old)

    def load(self, folder: Path) -> RunState:
        """Resume from a checkpoint that `save` wrote.

        Args:
            folder: The checkpoint.

        Returns:
            How far the run was.

        Raises:
            CheckpointError: A file is missing or damaged, or belongs to another model or step.
        """
        try:
            state = self._load(folder)
            self._check_numbers(folder)
        except CheckpointError:
            raise
        except _UNREADABLE as error:
            reason = first_line(error).partition(". ")[0].rstrip(".")
            raise CheckpointError(
                f"The checkpoint {folder} is damaged or that of another run ({reason}); {_ADVICE}."
            ) from None
        return state

    def _load(self, folder: Path) -> RunState:
        # Load the model and the optimizer
        if self.is_sharded:
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

        # Load the random states; there are none for this process if the number of processes has changed
        if self._random_file(folder).is_file():
            _restore_random_states(load_file(self._random_file(folder)))
        return _read_state(folder)

    def _check_numbers(self, folder: Path) -> None:
        """Check that weights and moments are finite, and that moments have the shapes of their weights."""
        if self.is_sharded:
            return
        averaged = {} if self.ema is None else self.ema.average
        for file, tensors in ((WEIGHTS_FILE, self.bare_model.state_dict()), (EMA_FILE, averaged)):
            if name := not_finite(tensors):
                raise CheckpointError(f"{folder / file} has values that are not finite in {name}; {_ADVICE}.")
        parameters = [value for group in self.optimizer.param_groups for value in group["params"]]
        states = [(value, self.optimizer.state.get(value)) for value in parameters]
        if not any(state for _, state in states):
            raise CheckpointError(f"{folder / OPTIMIZER_FILE} has no moments of the optimizer; {_ADVICE}.")
        for parameter, state in states:
            for moment in _MOMENTS if state else ():
                if state.get(moment) is None or state[moment].shape != parameter.shape:
                    raise CheckpointError(
                        f"{folder / OPTIMIZER_FILE} is that of another model (its {moment} has another shape "
                        f"than the weights); {_ADVICE}."
                    )
                if not_finite({moment: state[moment]}):
                    raise CheckpointError(
                        f"{folder / OPTIMIZER_FILE} has values that are not finite; {_ADVICE}."
                    )

    def _save_model(self, folder: Path) -> None:
        """Write the model in a format that `from_pretrained` reads, gathered if it is sharded."""
        model = self.bare_model
        weights = whole_state(model) if self.is_sharded else None
        if not self.accelerator.is_main_process:
            return
        if isinstance(model, PreTrainedModel):
            with without_bars():
                model.save_pretrained(folder, state_dict=weights)
        else:
            save_model(model, str(folder / WEIGHTS_FILE))
        self.processor.save_pretrained(folder)

    def _save_optimizer(self, folder: Path) -> None:
        if self.is_sharded:
            plugin = self.accelerator.state.fsdp_plugin
            save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, str(folder))
        elif self.accelerator.is_main_process:
            torch.save(self.optimizer.state_dict(), folder / OPTIMIZER_FILE)

    def _random_file(self, folder: Path) -> Path:
        return folder / f"random-{self.accelerator.process_index}.safetensors"


def _read_state(folder: Path) -> RunState:
    """Read how far a run was at a checkpoint."""
    try:
        content = read_json_object(folder / STATE_FILE)
    except InvalidInputError as error:
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: {error}; {_ADVICE}.") from None
    step, history = content.get("global_step"), content.get("log_history")
    if step != checkpoint_step(folder):
        raise CheckpointError(
            f"{folder / STATE_FILE} is that of step {step!r:.20}, and the checkpoint that of step "
            f"{checkpoint_step(folder)}; {_ADVICE}."
        )
    if not isinstance(history, list) or not all(map(_is_log_entry, history)):
        raise CheckpointError(f"{folder / STATE_FILE} has no log of numbers; {_ADVICE}.")
    return RunState(step, history)


def _is_log_entry(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(value, int | float) for value in entry.values())


@contextmanager
def _removed_on_error(unfinished: Path, checkpoint: Path) -> Iterator[None]:
    """Remove a checkpoint that cannot be finished, and raise a `TrainingError` that names the reason."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        # Each library raises an error type of its own when the disk is full
        if type(error) is RuntimeError and full_disk(error) is None:
            raise
        shutil.rmtree(unfinished, ignore_errors=True)
        is_first = not complete_checkpoints(checkpoint.parent)
        next_step = (
            "then train again"
            if is_first
            else "the checkpoint before it is kept, continue from there with --resume"
        )
        raise TrainingError(
            f"{checkpoint} could not be written ({error}): make room on the disk; {next_step}."
        ) from error


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
