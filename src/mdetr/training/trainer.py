"""Trainer for MDETR on top of `transformers.Trainer`.

Hugging Face's Trainer does the work; what is ours are the parameter groups, the schedule, the averaged
weights, the log of the losses and the evaluation by tasks.
"""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import DistributedType
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Sampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from mdetr.errors import TrainingError
from mdetr.files import give_ordinary_permissions
from mdetr.images import Size, resized_size
from mdetr.training.datasets import Mixture
from mdetr.training.ema import ExponentialMovingAverage, whole_tensor
from mdetr.training.evaluation import EVALUATED, Validation
from mdetr.training.grouping import EpochSampler, ShapeGroupedSampler
from mdetr.training.learner import Learner
from mdetr.training.lora import merge_lora
from mdetr.training.loss_parts import LossParts
from mdetr.training.meters import Meters
from mdetr.training.recipe import FixedSizeAugmentation, OptimizerSettings, Recipe
from mdetr.training.run_folder import COMPLETE
from mdetr.training.schedules import Schedule
from mdetr.training.skipping import BROKEN_FILE, BrokenExamples, SkippingDataset

EMA_FILE = "ema.safetensors"
BAD_BATCH_FILE = "bad_batch.json"
PUBLISHED_RATE, PUBLISHED_SIZE = 1e-4, 100_000_000  # all published models are larger
HIGHEST_RATE = 1e-3
_CANNOT_WRITE = re.compile("PytorchStreamWriter|iostream error")  # in what torch says of a full disk


def suited_rate(parameters: int) -> float:
    """The learning rate for a model with so many parameters.

    It is the published rate for models of the published size. Smaller models learn at higher rates: with the
    square root of the size this comes near to those that the bundled models were trained with.
    """
    return min(HIGHEST_RATE, PUBLISHED_RATE * max(1.0, PUBLISHED_SIZE / parameters) ** 0.5)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The three groups of the optimizer: names with "backbone", with "text_encoder", the rest.

    Rates that the settings leave open suit the model's size.

    Source: arXiv 2104.12763, appendix A.
    """
    parameters: dict[str, list[nn.Parameter]] = {"backbone": [], "text_encoder": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next((key for key in ("backbone", "text_encoder") if key in name), "rest")
            parameters[group].append(parameter)
    rates = _rates(model, settings)
    return [
        {"name": name, "params": parameters[name], "lr": rates[name]}
        for name in parameters
        if parameters[name]
    ]


def _rates(model: nn.Module, settings: OptimizerSettings) -> dict[str, float]:
    """The learning rate of each group; those that the settings leave open suit the sizes."""
    total = sum(parameter.numel() for parameter in model.parameters())
    of_text = sum(p.numel() for name, p in model.named_parameters() if "text_encoder" in name)
    if settings.lr is None:
        lr = suited_rate(total)
        # A text encoder of the published size gets half; a small one has as much to learn as the rest.
        text_lr = min(lr, suited_rate(of_text) / 2) if of_text else lr / 2
    else:
        lr, text_lr = settings.lr, settings.lr / 2
    return {
        "backbone": lr / 10 if settings.lr_backbone is None else settings.lr_backbone,
        "text_encoder": text_lr if settings.lr_text_encoder is None else settings.lr_text_encoder,
        "rest": lr,
    }


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
        self.sampler = self._make_sampler()
        self.folder = Path(cast(str, arguments.output_dir))
        self.validations = validations
        self.ema: ExponentialMovingAverage | None = None  # starts when the model is where it trains
        sharded = recipe.run.sharding != "none"
        # what is scored and saved of a sharded model, whose parts would have to be run by all together
        self._twin = copy.deepcopy(model).eval() if sharded else None
        self._draw = draw
        self._parts = LossParts(getattr(getattr(model, "config", None), "answer_types", None) or ())
        self.meters = Meters()
        if arguments.fsdp_plugin_args is not None:  # each repeated layer is gathered by itself
            layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
            names = sorted({type(layer).__name__ for layer in layers})
            arguments.fsdp_plugin_args["transformer_cls_names_to_wrap"] = names
            # lower precision comes from autocast, as without sharding: boxes and sums stay float32
            arguments.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy()
        super().__init__(
            model=model,
            args=arguments,
            data_collator=learner.collator,
            train_dataset=SkippingDataset(dataset, BrokenExamples(self.folder / BROKEN_FILE), learner.check),
            eval_dataset=dataset if validations else None,  # only says that there is something to evaluate
            processing_class=learner.processor,
            callbacks=[_FollowTraining(self)],
        )
        self.model_accepts_loss_kwargs = False
        # a baseline could not be saved so, and FSDP wants its weights in the usual order
        if isinstance(model, PreTrainedModel) and not sharded:
            nn.Module.to(model, memory_format=torch.channels_last)  # faster convolutions

    def create_accelerator_and_postprocess(self) -> None:
        """Accelerate's engine; it shards on accelerators alone unless told that CPUs shall too."""
        super().create_accelerator_and_postprocess()
        wanted = self.args.fsdp_plugin_args
        if wanted is not None and not self.is_fsdp_enabled and self.args.world_size > 1:
            state = self.accelerator.state
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**wanted)
            state.distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the three groups."""
        if self.optimizer is None:
            settings = self.recipe.optimizer
            groups = parameter_groups(model or cast(nn.Module, self.model), settings)
            self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
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
        self.meters.see(inputs)
        try:
            # accelerate gives a model its autocast, but not a sharded one
            with nullcontext() if self._twin is None else self.accelerator.autocast():
                output = model(**inputs)
            if not torch.isfinite(output.loss):
                raise TrainingError(f"The loss is {output.loss.item()}.")
        except TrainingError as error:
            raise TrainingError(self._keep_bad_batch(records, str(error))) from None
        self._parts.add(output.losses, inputs.get("targets") or {})
        return (output.loss, output) if return_outputs else output.loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The batches of the next step; the time that they take is counted."""
        with self.meters.waiting():
            return super().get_batch_samples(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to what is logged of the loss: its parts, averaged since the last log, rates and speed."""
        if "loss" in logs and len(self._parts):
            logs = {**logs, **self._parts.read(self.accelerator)}
            del logs["learning_rate"]  # of the first group alone
            groups = cast(torch.optim.Optimizer, self.optimizer).param_groups
            logs |= {f"lr_{group['name']}": group["lr"] for group in groups}
            logs |= self.meters.read(self.args.world_size)
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score the averaged weights on every validation store by its tasks.

        Raises:
            TrainingError: Too much of a store cannot be read; in a run, a checkpoint is written before.
        """
        metrics: dict[str, float] = {}
        try:
            with self._averaged() as model:
                for name, validation in self.validations.items():
                    scores = self._score(
                        model, validation, self.args.per_device_eval_batch_size, self.accelerator
                    )
                    metrics |= {f"{metric_key_prefix}_{name}_{key}": value for key, value in scores.items()}
                if self._draw is not None and self.is_world_process_zero():
                    self._draw(model, self.state.global_step)
        except TrainingError as error:
            if self.is_in_train:
                self._save_checkpoint(cast(nn.Module, self.model), trial=None)
                raise TrainingError(f"{error} What was learned is kept; go on with --resume.") from None
            raise
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def last_metrics(self) -> dict[str, float]:
        """What the last evaluation gave; empty without one."""
        for entry in reversed(self.state.log_history):
            scores = {name: value for name, value in entry.items() if name.startswith(EVALUATED)}
            if scores:
                return scores
        return {}

    def save_averaged(self, folder: Path) -> None:
        """Write the averaged model and its processor to a folder that `from_pretrained` reads."""
        with self._averaged() as model:
            if self.is_world_process_zero():
                new = folder.with_name(f"{folder.name}.new")
                cast(PreTrainedModel, merge_lora(model)).save_pretrained(new)
                self.processor.save_pretrained(new)
                shutil.rmtree(folder, ignore_errors=True)
                new.rename(folder)

    @property
    def _bare_model(self) -> nn.Module:
        """The model without what the engine puts around it."""
        return cast(nn.Module, self.accelerator.unwrap_model(self.model, keep_torch_compile=False))

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        """The model with its averaged weights, where it has them, whole in every process."""
        model = self._bare_model
        if self._twin is not None:
            state = self.ema.whole() if self.ema is not None else _whole_state(model)
            self._twin.to(self.args.device).load_state_dict(state)
            yield self._twin
        elif self.ema is not None:
            with self.ema.applied_to(model):
                yield model
        else:
            yield model

    def start_average(self) -> ExponentialMovingAverage | None:
        """Begin the average of the weights, if the recipe wants one and it is not there yet."""
        settings = self.recipe.ema
        if self.ema is None and settings is not None:
            self.ema = ExponentialMovingAverage(self._bare_model, settings.decay, settings.ramp)
        return self.ema

    def continue_data(self, epoch: float) -> None:
        """Tell the data at which epoch training is; a run that is resumed begins within one."""
        whole = math.floor(epoch + 1e-6)
        self.mixture.set_epoch(whole)
        self.sampler.set_epoch(whole)  # accelerate does not find it below its own samplers
        if isinstance(self.sampler, ShapeGroupedSampler):
            batch_size = self.recipe.optimizer.batch_size
            batches = math.floor((epoch - whole) * (len(self.mixture) // batch_size) + 1e-6)
            self.sampler.skip(max(0, batches) * batch_size)

    def _make_sampler(self) -> EpochSampler | ShapeGroupedSampler:
        data, seed = self.recipe.data, self.recipe.seed
        sampler = EpochSampler(self.mixture, self.mixture.weights, seed)
        if isinstance(data.augmentation, FixedSizeAugmentation) or not data.group_by_shape:
            return sampler
        return ShapeGroupedSampler(sampler, self._shape, self.recipe.optimizer.batch_size, seed)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step < self.state.max_steps:  # else a run that was over is resumed
            super()._run_epoch(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.sampler

    def _shape(self, index: int) -> Size:
        size = self.mixture.shape(index)
        wanted = getattr(self.processor, "image_processor", self.processor).size
        if self.recipe.data.augmentation == "none" and wanted is not None:  # then the processor resizes
            return resized_size(size, wanted["shortest_edge"], wanted.get("longest_edge"))
        return size

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model to a folder that `from_pretrained` reads; a sharded one is put together for it."""
        if self._twin is None:
            super().save_model(output_dir, _internal_call)
        else:
            state = _whole_state(self._bare_model)
            if self.args.should_save:
                self._save(output_dir, state)

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
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each writes the state of its random numbers
            if self.is_world_process_zero():
                for weights in folder.glob("*.safetensors"):
                    give_ordinary_permissions(weights)
                (folder / COMPLETE).touch()
        # each library has its own for a full disk
        except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            if type(error) is RuntimeError and not _CANNOT_WRITE.search(str(error)):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise TrainingError(
                f"{folder} could not be written ({error}): make room on the disk; the checkpoint before "
                "it is kept, go on from there with --resume."
            ) from error

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.ema is not None:
            self.ema.save(Path(output_dir) / EMA_FILE, write=self.args.should_save)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        average = self.start_average()
        if checkpoint is not None and average is not None:
            average.load(Path(checkpoint) / EMA_FILE)


class _FollowTraining(TrainerCallback):
    """Tells the data which epoch it is, moves the average after every step of the optimizer, and times it."""

    def __init__(self, trainer: MdetrTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.start_average()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.continue_data(state.epoch or 0.0)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        ema = self.trainer.ema
        if ema is not None:
            ema.update(self.trainer._bare_model)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.meters.end_step()


def _whole_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole_tensor(tensor) for name, tensor in model.state_dict().items()}
