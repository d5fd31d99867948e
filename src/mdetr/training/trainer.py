"""The trainer: a model, data and a recipe in; a trained model, its average, logs and pictures out.

Hugging Face's Trainer does the work; what is ours are the parameter groups, the schedule, the averaged
weights, the log of the losses and the evaluation by tasks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, WeightedRandomSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from mdetr.errors import CheckpointError, TrainingError
from mdetr.training.datasets import Mixture
from mdetr.training.ema import ExponentialMovingAverage
from mdetr.training.evaluation import Validation, evaluate
from mdetr.training.recipe import OptimiserSettings, Recipe
from mdetr.training.schedules import Schedule
from mdetr.training.skipping import SkippingDataset

COMPLETE = "complete"  # a checkpoint without this file was interrupted while it was written
EMA_FILE = "ema.safetensors"
BAD_BATCH_FILE = "bad_batch.json"
BROKEN_FILE = "broken_examples.jsonl"


def parameter_groups(model: nn.Module, settings: OptimiserSettings) -> list[dict[str, Any]]:
    """The three groups of the optimiser: names with "backbone", with "text_encoder", the rest.

    Source: arXiv 2104.12763, appendix A.
    """
    parameters: dict[str, list[nn.Parameter]] = {"backbone": [], "text_encoder": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next((key for key in ("backbone", "text_encoder") if key in name), "rest")
            parameters[group].append(parameter)
    rates = {"backbone": settings.lr_backbone, "text_encoder": settings.lr_text_encoder, "rest": settings.lr}
    return [
        {"name": name, "params": parameters[name], "lr": rates[name]}
        for name in parameters
        if parameters[name]
    ]


@dataclass(frozen=True)
class Learner:
    """What is trained.

    model: called with a batch it gives an output with `loss` and `losses`. processor: makes its tensors, and
    is saved with it. collator: examples -> a batch, with "records". evaluate: scores it, as
    `mdetr.training.evaluation.evaluate`.
    """

    model: nn.Module
    processor: Any
    collator: Callable[[list[Any]], dict[str, Any]]
    evaluate: Callable[..., dict[str, float]] = evaluate


class MdetrTrainer(Trainer):
    """Trains a model by a recipe.

    Args:
        learner: what is trained.
        recipe: all settings.
        arguments: Hugging Face's own, made from the recipe.
        dataset: the training examples. validations: name -> what is evaluated.
        draw: makes a picture of predictions after an evaluation, called with the model and the step.
    """

    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        arguments: TrainingArguments,
        dataset: Mixture,
        validations: Mapping[str, Validation],
        draw: Callable[[Any, int], object] | None = None,
    ) -> None:
        model = learner.model
        self.recipe = recipe
        self.processor = learner.processor
        self._score = learner.evaluate
        self.mixture = dataset
        self.folder = Path(cast(str, arguments.output_dir))
        self.validations = validations
        self.ema = None
        if recipe.ema is not None:
            self.ema = ExponentialMovingAverage(model, recipe.ema.decay, recipe.ema.ramp)
        self._draw = draw
        self._parts: dict[str, Tensor] = {}
        self._num_parts = 0
        super().__init__(
            model=model,
            args=arguments,
            data_collator=learner.collator,
            train_dataset=SkippingDataset(dataset, self.folder / BROKEN_FILE),
            eval_dataset=dataset if validations else None,  # only says that there is something to evaluate
            processing_class=learner.processor,
            callbacks=[_FollowTraining(self)],
        )
        self.model_accepts_loss_kwargs = False
        if isinstance(model, PreTrainedModel):  # others could not be saved so
            nn.Module.to(model, memory_format=torch.channels_last)  # faster convolutions

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the three groups."""
        if self.optimizer is None:
            settings = self.recipe.optimiser
            groups = parameter_groups(model or cast(nn.Module, self.model), settings)
            self.optimizer = torch.optim.AdamW(
                groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
            )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule that the recipe names."""
        if self.lr_scheduler is None:
            settings = self.recipe.schedule
            schedule = Schedule(
                settings.name,
                settings.lr_drop,
                len(self.get_train_dataloader()) / self.args.gradient_accumulation_steps,
                num_training_steps,
                settings.warmup,
                settings.start_at_base,
            )
            self.lr_scheduler = schedule.scheduler(cast(torch.optim.Optimizer, optimizer or self.optimizer))
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The model's weighted loss; its parts are kept for the log.

        Raises:
            TrainingError: the loss is not finite. The ids of the batch are in the run's folder.
        """
        records = inputs.pop("records")
        try:
            output = model(**inputs)
            if not torch.isfinite(output.loss):
                raise TrainingError(f"The loss is {output.loss.item()}.")
        except TrainingError as error:
            raise TrainingError(self._keep_bad_batch(records, str(error))) from None
        for name, value in output.losses.items():
            self._parts[name] = self._parts.get(name, torch.zeros_like(value)) + value
        self._num_parts += 1
        return (output.loss, output) if return_outputs else output.loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the losses' parts, averaged since the last log, to what is logged of the loss."""
        if "loss" in logs and self._num_parts:
            names = list(self._parts)
            sums = self.accelerator.reduce(torch.stack([self._parts[name] for name in names]), "mean")
            logs = {**logs, **dict(zip(names, (sums / self._num_parts).tolist(), strict=True))}
            self._parts, self._num_parts = {}, 0
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score the averaged weights on every validation store by its tasks."""
        model = self.accelerator.unwrap_model(self.model)
        metrics: dict[str, float] = {}
        with self._averaged(model):
            for name, validation in self.validations.items():
                scores = self._score(
                    model, validation, self.args.per_device_eval_batch_size, self.accelerator
                )
                metrics |= {f"{metric_key_prefix}_{name}_{key}": value for key, value in scores.items()}
            if self._draw is not None and self.is_world_process_zero():
                self._draw(model, self.state.global_step)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def save_averaged(self, folder: Path) -> None:
        """Write the averaged model and its processor to a folder that `from_pretrained` reads."""
        model = self.accelerator.unwrap_model(self.model)
        with self._averaged(model):
            if self.is_world_process_zero():
                model.save_pretrained(folder)
                self.processor.save_pretrained(folder)

    def _averaged(self, model: nn.Module) -> Any:
        return self.ema.applied_to(model) if self.ema is not None else torch.no_grad()

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        weights = self.mixture.weights
        if weights is None:
            return super()._get_train_sampler(train_dataset)
        return _EpochSampler(weights, self.args.seed)

    def _keep_bad_batch(self, records: Sequence[Any], reason: str) -> str:
        path = self.folder / BAD_BATCH_FILE
        ids = [{"source": record.source, "split": record.split, "id": record.id} for record in records]
        path.write_text(
            json.dumps({"step": self.state.global_step, "reason": reason, "records": ids}, indent=1)
        )
        return (
            f"Training stopped at step {self.state.global_step}: {reason} The batch's ids are in {path} and "
            "the last checkpoint is kept: lower the learning rate, or look at the records, and use --resume."
        )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            folder = self.folder / f"checkpoint-{self.state.global_step}"
            (folder / COMPLETE).touch()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.ema is not None and self.args.should_save:
            self.ema.save(Path(output_dir) / EMA_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.ema is not None:
            self.ema.load(Path(checkpoint) / EMA_FILE)


class _EpochSampler(WeightedRandomSampler):
    """Draws by weight, the same in every process and wherever training resumes."""

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        super().__init__(weights, len(weights), generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Make the draws those of this epoch (`transformers.Trainer` calls it)."""
        self.generator.manual_seed(self.seed + epoch)


class _FollowTraining(TrainerCallback):
    """Tells the data which epoch it is, and moves the average after every step of the optimiser."""

    def __init__(self, trainer: MdetrTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # accelerate tells only the sampler, where that wants to know too
        self.trainer.mixture.set_epoch(math.floor((state.epoch or 0.0) + 1e-6))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        ema = self.trainer.ema
        if ema is not None:
            ema.update(self.trainer.accelerator.unwrap_model(self.trainer.model))


def last_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run that was written to its end.

    Raises:
        CheckpointError: the run has none.
    """
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    if not complete:
        raise CheckpointError(f"There is no checkpoint in {folder} to resume from; train without --resume.")
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")))
