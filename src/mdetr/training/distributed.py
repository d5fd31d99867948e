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
from mdetr.training.recipe import Recipe

LOG_FOLDER = "logs"


def make_accelerator(model: nn.Module, recipe: Recipe, folder: Path) -> Accelerator:
    """Make the accelerator of a run; it finds the processes that a launcher has started.

    Precision is not its business: it could have but one in the life of a process.

    Args:
        model: What will be trained; its repeated layers are sharded one by one.
        recipe: All settings.
        folder: The run's folder, where TensorBoard's log goes.

    Raises:
        RecipeError: The machine cannot train in the recipe's precision.
    """
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and recipe.run.precision == "fp16":
        raise RecipeError("run.precision: fp16 trains on a GPU only; use bf16 or fp32 here.")
    missing = [name for name in recipe.run.trackers if find_spec(name) is None]
    if missing:
        raise RecipeError(f"run.trackers: {missing[0]} is not installed: pip install {missing[0]}.")
    tensorboard = TensorBoardTracker(LOG_FOLDER, folder)
    # Mask losses may be absent from a batch; recomputing activations does not go with looking for them.
    find_unused = not recipe.run.gradient_checkpointing
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no",
        log_with=[tensorboard, *recipe.run.trackers],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused)],
    )
    accelerator.init_trackers("mdetr", init_kwargs={"wandb": {"name": folder.name}})
    if recipe.run.sharding == "fsdp" and accelerator.num_processes > 1:
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


def batch_per_process(recipe: Recipe, num_processes: int) -> int:
    """Examples of each process in one forward pass.

    Raises:
        RecipeError: The batch does not divide into the processes and their accumulated parts.
    """
    total, parts = recipe.optimizer.batch_size, recipe.run.gradient_accumulation
    size, rest = divmod(total, num_processes * parts)
    if rest or not size:
        raise RecipeError(
            f"optimizer.batch_size {total} does not divide into {num_processes} processes with {parts} "
            "accumulated steps each."
        )
    return size


def tensorboard_writer(accelerator: Accelerator) -> GeneralTracker:
    """The tracker of TensorBoard."""
    return accelerator.get_tracker("tensorboard", unwrap=True)
