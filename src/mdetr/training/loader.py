"""Loader of training batches: worker processes, and the place in an epoch at which it starts."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, cast

import torch
from accelerate.data_loader import DataLoaderShard, skip_first_batches
from torch.utils.data import DataLoader, Dataset

from mdetr.data.examples import Example
from mdetr.training.datasets import EpochSampler, ShapeGroupedSampler


def make_loader(
    dataset: Dataset[Example],
    sampler: EpochSampler | ShapeGroupedSampler,
    collate: Callable[[list[Any]], dict[str, Any]],
    *,
    batch_size: int,
    batch_per_process: int,
    workers: int,
    pin_memory: bool = False,
) -> DataLoader[Example]:
    """Make the loader of training batches, of which Accelerate gives each process its part.

    Args:
        dataset: The examples.
        sampler: Their order.
        collate: Function from examples to a batch.
        batch_size: Examples in a step, over all processes.
        batch_per_process: Examples of each process in one forward pass.
        workers: Processes that read data for each process of the run.
        pin_memory: Whether to copy batches to memory from which a GPU copies faster.

    Returns:
        The loader. Each epoch drops an incomplete batch at its end, unless it is the only one.
    """
    return DataLoader(
        dataset,
        batch_per_process,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        drop_last=len(cast(Sized, dataset)) >= batch_size,
        # Draw the seed of an epoch from a separate generator: a resumed run iterates once more than one that
        # was not stopped, and must leave the global generator in the same state
        generator=torch.Generator(),
    )


def start_epoch(
    loader: DataLoaderShard,
    sampler: EpochSampler | ShapeGroupedSampler,
    epoch: int,
    batches_done: int = 0,
    examples_done: int = 0,
) -> DataLoaderShard:
    """Set the epoch of a loader, and skip what a resumed run has done of it.

    Args:
        loader: This process's part of the loader from `make_loader`, prepared by Accelerate.
        sampler: Order of its examples.
        epoch: Number of the epoch, which seeds the order.
        batches_done: Batches of this process that are skipped.
        examples_done: Examples of all processes in these batches.

    Returns:
        The loader to iterate over.
    """
    # Accelerate's loader sets the epoch only of samplers that it finds
    sampler.set_epoch(epoch)
    loader.set_epoch(epoch)
    if isinstance(sampler, ShapeGroupedSampler):
        sampler.skip(examples_done)
    return skip_first_batches(loader, batches_done) if batches_done else loader
