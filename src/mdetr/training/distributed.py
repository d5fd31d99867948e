"""Accelerate's set-up for the processes of a run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.tracking import GeneralTracker, TensorBoardTracker
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from mdetr.errors import RecipeError
from mdetr.training.loop import RunSettings

LOG_FOLDER = "logs"


def make_accelerator(model: nn.Module, settings: RunSettings, folder: Path) -> Accelerator:
    """Make the accelerator of a run, which connects the processes that a launcher has started.

    The training loop sets the precision: Accelerate allows only one in the life of a process.

    Args:
        model: What will be trained; its repeated layers are sharded one by one.
        settings: Precision, sharding and trackers.
        folder: The run's folder, where TensorBoard's log goes.

    Returns:
        The accelerator, with its trackers started.

    Raises:
        RecipeError: The machine cannot train in the recipe's precision.
    """
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and settings.precision == "fp16":
        raise RecipeError("run.precision: fp16 trains on a GPU only; use bf16 or fp32 here.")
    missing = [name for name in settings.trackers if find_spec(name) is None]
    if missing:
        raise RecipeError(f"run.trackers: {missing[0]} is not installed: pip install {missing[0]}.")
    tensorboard = TensorBoardTracker(LOG_FOLDER, folder)
    # Mask losses may be absent from a batch; recomputing activations does not go with looking for them.
    find_unused = not settings.gradient_checkpointing
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no",
        log_with=[tensorboard, *settings.trackers],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused)],
    )
    accelerator.init_trackers("mdetr", init_kwargs={"wandb": {"name": folder.name}})
    if settings.sharding == "fsdp" and accelerator.num_processes > 1:
        # Given to its constructor, Accelerate would shard on accelerators alone.
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


def tensorboard_writer(accelerator: Accelerator) -> GeneralTracker:
    """The tracker of TensorBoard."""
    return accelerator.get_tracker("tensorboard", unwrap=True)
