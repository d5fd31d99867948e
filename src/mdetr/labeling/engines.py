"""Engines that label the parts of a plan: the processes of one or more machines, or a Ray cluster."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.extras import install_command
from mdetr.labeling.plan import LabelPlan, LabelSettings

_SECONDS_BETWEEN_LOOKS = 0.5

OnProgress = Callable[[int], None]
"""Called with the number of images that are done."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The position of this process among those that label the same images.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes.
        local_rank: Number of this process on its machine, from 0.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> ProcessGroup:
        """Read the position from the variables that torchrun sets.

        Returns:
            The position; that of a single process without the variables.

        Raises:
            InvalidInputError: The variables contradict each other.
        """
        values: list[int] = []
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
            text = os.environ.get(name, default)
            if not text.isdigit():
                raise InvalidInputError(f"Expected a whole number in the variable {name}, got {text!r}.")
            values.append(int(text))
        rank, world_size, local_rank = values
        if rank >= world_size:
            raise InvalidInputError(f"Expected RANK below WORLD_SIZE, got {rank} and {world_size}.")
        return cls(rank, world_size, local_rank)

    def device(self) -> str | None:
        """Return the GPU of this process if there is one for each; None to let the model choose."""
        if self.world_size == 1:
            return None
        import torch  # which torchrun, the starter of several processes, comes with

        return f"cuda:{self.local_rank}" if self.local_rank < torch.cuda.device_count() else None


def label_locally(
    plan: LabelPlan, group: ProcessGroup, device: str | None, on_progress: OnProgress | None = None
) -> None:
    """Label the missing parts of this process; the first process then waits for the others.

    Args:
        plan: The plan.
        group: Position of this process.
        device: Device to run on; None for a GPU if there is one.
        on_progress: Called after each image of this process, and while it waits.
    """
    images_done = _count_images(plan)
    labeler = None
    for part in plan.missing_parts(group.rank, group.world_size):
        if labeler is None:
            # Imports torch, which a plan without missing parts does not need
            from mdetr.labeling.labeler import Labeler

            labeler = Labeler(plan, device if device is not None else group.device())
        for _ in labeler.label_part(part):
            images_done += 1
            if on_progress is not None:
                on_progress(images_done)
        if group.world_size > 1:
            images_done = _count_images(plan)

    # Wait for the other processes by their files: a barrier would time out on long runs
    while group.rank == 0 and plan.count_done() < plan.num_parts:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        if on_progress is not None:
            on_progress(_count_images(plan))


def label_with_ray(
    plan: LabelPlan, num_workers: int | None, device: str | None, on_progress: OnProgress | None = None
) -> None:
    """Label the missing parts on a Ray cluster with Ray Data.

    Ray repeats the parts of a machine that fails on the others. Results do not depend on which worker labels
    a part.

    Args:
        plan: The plan, in a folder that all machines share under the same path.
        num_workers: Number of workers; None for one for each GPU of the cluster, or one for each two cores.
        device: Device to run on; None for a GPU if there is one.
        on_progress: Called with the number of images that are done.

    Raises:
        MissingDependencyError: Ray is not installed.
        InvalidInputError: The results do not arrive in the folder, which then is not shared.
    """
    missing = list(plan.missing_parts())
    if not missing:
        return
    ray = import_ray()
    was_initialized = ray.is_initialized()
    if not was_initialized:
        ray.init(log_to_driver=False, logging_level="ERROR")  # a cluster is found by RAY_ADDRESS
    try:
        _configure_ray_data(ray)

        # Give each worker a GPU, if the cluster has any
        resources = ray.cluster_resources()
        num_gpus = int(resources.get("GPU", 0))
        if num_workers is None:
            num_workers = num_gpus or max(1, int(resources.get("CPU", 1)) // 2)
        num_workers = min(num_workers, len(missing))

        parts = ray.data.from_items([{"part": part} for part in missing], override_num_blocks=len(missing))
        done = parts.map_batches(
            RayLabeler,
            fn_constructor_args=(str(plan.folder.absolute()), plan.settings, device),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=1,
            num_gpus=1 if num_gpus and device is None else 0,
        )
        for _ in done.iter_batches(batch_size=1):
            if on_progress is not None:
                on_progress(_count_images(plan))
    finally:
        if not was_initialized:
            ray.shutdown()
    if plan.count_done() < plan.num_parts:
        raise InvalidInputError(
            f"The machines of the cluster have not written their results to {plan.folder}; use a folder that "
            "all of them share under the same path."
        )


class RayLabeler:
    """A worker of Ray Data: labels parts by number.

    Args:
        folder: Folder of the plan, shared by all machines.
        settings: Settings of the plan.
        device: Device to run on; None for a GPU if there is one.
    """

    def __init__(self, folder: str, settings: LabelSettings, device: str | None) -> None:
        from mdetr.labeling.labeler import Labeler

        self._plan = LabelPlan.open(Path(folder), settings)
        self._labeler = Labeler(self._plan, device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the parts of a batch, unless an earlier attempt has completed them."""
        for part in batch["part"].tolist():
            if not self._plan.is_done(part):
                for _ in self._labeler.label_part(part):
                    pass
        return batch


def import_ray() -> Any:
    """Import Ray with quiet defaults.

    Returns:
        The module.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its notes about itself are not for our users
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingDependencyError(
            f"--engine ray needs Ray; install it with {install_command('ray')}."
        ) from None
    return ray


def _configure_ray_data(ray: Any) -> None:
    """Turn off the bars and notices of Ray Data, which would mix with ours."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False


def _count_images(plan: LabelPlan) -> int:
    """Count the images of the parts that are done; the last part may have fewer than the others."""
    per_part = -(-plan.num_images // plan.num_parts)
    return min(plan.count_done() * per_part, plan.num_images)
