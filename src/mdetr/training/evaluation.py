"""Evaluation: a model and a validation store in, the scores of its tasks out, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Subset

from mdetr.data.collate import Collator
from mdetr.data.examples import ExampleDataset
from mdetr.data.store import Store
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor
from mdetr.tasks.registry import make_scorer
from mdetr.training.recipe import ValidationStore


@dataclass(frozen=True)
class Validation:
    """Examples to evaluate on, the tasks that score them, and the processor that makes their tensors."""

    dataset: ExampleDataset
    num_images: int
    tasks: Sequence[str]
    processor: MdetrProcessor

    @classmethod
    def open(cls, settings: ValidationStore, processor: MdetrProcessor) -> Validation:
        """Open the store that a recipe names."""
        dataset = ExampleDataset(Store.open(settings.store))
        wanted = len(dataset) if settings.max_images is None else min(settings.max_images, len(dataset))
        return cls(dataset, wanted, settings.tasks, processor)


def evaluate(
    model: MdetrModel,
    validation: Validation,
    batch_size: int,
    accelerator: Accelerator,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Score a model on a validation store; every process takes its share and all return the same figures.

    Args:
        model: in any mode; it is put back into that mode.
        validation: what to evaluate on.
        batch_size: images a batch on each process; all their texts share them.
        accelerator: knows the processes, the device and the precision.
        on_progress: called with the number of images that this process has finished since the last call.

    Returns:
        "task_figure" -> value.
    """
    share = range(accelerator.process_index, validation.num_images, accelerator.num_processes)
    loader = DataLoader(
        Subset(validation.dataset, share), batch_size=batch_size, collate_fn=Collator(validation.processor)
    )
    scorers = {task: make_scorer(task, validation.processor) for task in validation.tasks}
    was_training = model.training
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        for batch in loader:
            records = batch.pop("records")
            batch.pop("targets")
            output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
            for scorer in scorers.values():
                scorer.update(output, records)
            if on_progress is not None:
                on_progress(len(batch["pixel_values"]))
    model.train(was_training)
    return {
        f"{task}_{name}": value
        for task, scorer in scorers.items()
        for name, value in scorer.compute().items()
    }
