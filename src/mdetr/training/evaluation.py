"""Evaluation: a model and a validation store in, the scores of its tasks out, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Subset

from mdetr.data.collate import Collator
from mdetr.data.examples import ExampleDataset
from mdetr.data.store import Store
from mdetr.images import placements
from mdetr.inference.detection import ClassPrompts
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor
from mdetr.tasks.detection import DetectionScorer, classes_of, read_classes
from mdetr.tasks.judgement import Judgement
from mdetr.tasks.registry import DETECTION, SCORERS, Scorer, make_scorer
from mdetr.training.recipe import ValidationStore


@dataclass(frozen=True)
class Validation:
    """Examples to evaluate on, the tasks that score them, and the processor that makes their tensors.

    classes: an annotation file whose classes are looked for in every image; those of the store if left out.
    """

    dataset: ExampleDataset
    num_images: int
    tasks: Sequence[str]
    processor: MdetrProcessor
    classes: Path | None = None

    @classmethod
    def open(cls, settings: ValidationStore, processor: MdetrProcessor) -> Validation:
        """Open the store that a recipe names."""
        dataset = ExampleDataset(Store.open(settings.store))
        wanted = len(dataset) if settings.max_images is None else min(settings.max_images, len(dataset))
        return cls(dataset, wanted, settings.tasks, processor, settings.classes)


def evaluate(
    model: MdetrModel,
    validation: Validation,
    batch_size: int,
    accelerator: Accelerator,
    on_progress: Callable[[int], None] | None = None,
    on_judgements: Callable[[str, Sequence[Judgement]], None] | None = None,
) -> dict[str, float]:
    """Score a model on a validation store; every process takes its share and all return the same figures.

    Args:
        model: in any mode; it is put back into that mode.
        validation: what to evaluate on.
        batch_size: images a batch on each process, all their texts share them; in detection, names a batch.
        accelerator: knows the processes, the device and the precision.
        on_progress: called with the number of images that this process has finished since the last call.
        on_judgements: called with a task and what its scorer says of each record of a batch.

    Returns:
        "task_figure" -> value.
    """
    scorers = {task: make_scorer(task, validation.processor) for task in validation.tasks if task in SCORERS}
    detection = DETECTION in validation.tasks
    share = range(accelerator.process_index, validation.num_images, accelerator.num_processes)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        if scorers:
            loader = DataLoader(
                Subset(validation.dataset, share), batch_size, collate_fn=Collator(validation.processor)
            )
            for batch in loader:
                _score_batch(model, batch, scorers, on_judgements)
                if on_progress is not None and not detection:
                    on_progress(len(batch["pixel_values"]))
        scores = {
            f"{task}_{name}": value
            for task, scorer in scorers.items()
            for name, value in scorer.compute().items()
        }
        if detection:
            found = _detect(model, validation, share, batch_size, on_progress)
            scores |= {f"{DETECTION}_{name}": value for name, value in found.compute().items()}
    model.train(was_training)
    return scores


def _score_batch(
    model: MdetrModel,
    batch: dict[str, Any],
    scorers: Mapping[str, Scorer],
    on_judgements: Callable[[str, Sequence[Judgement]], None] | None,
) -> None:
    records = batch.pop("records")
    batch.pop("targets")
    mask = batch["pixel_mask"][batch["image_index"]]
    places = placements([(record.height, record.width) for record in records], mask)
    output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    for task, scorer in scorers.items():
        judgements = scorer.update(output, records, places)
        if on_judgements is not None:
            on_judgements(task, judgements)


def _detect(
    model: MdetrModel,
    validation: Validation,
    share: Sequence[int],
    batch_size: int,
    on_progress: Callable[[int], None] | None,
) -> DetectionScorer:
    """Look for every class in every image of this process's share."""
    store = validation.dataset.store
    classes = classes_of(store) if validation.classes is None else read_classes(validation.classes)
    prompts = ClassPrompts(model, validation.processor, [named.name for named in classes], batch_size)
    scorer = DetectionScorer(classes)
    for place in share:
        example = validation.dataset[place]
        _, found = prompts.find(example.image)
        boxes, scores = (torch.stack(part).float().cpu() for part in zip(*found, strict=True))
        scorer.update(example.records, boxes, scores)
        if on_progress is not None:
            on_progress(1)
    return scorer
