"""Evaluation: a model and a validation store in, the scores of its tasks out, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mdetr.data.collate import Collator
from mdetr.data.examples import ExampleDataset
from mdetr.data.store import Store
from mdetr.images import placements
from mdetr.inference.detection import ClassPrompts
from mdetr.model.mdetr import MdetrModel
from mdetr.tasks.detection import DetectionScorer, Found, NamedClass, classes_of, read_classes
from mdetr.tasks.judgement import Judgement
from mdetr.tasks.registry import DETECTION, SCORERS, Scorer, make_scorer
from mdetr.training.recipe import ValidationStore

EVALUATED = "eval_"  # what the names of scores begin with in a run's log and metrics


@dataclass(frozen=True)
class Validation:
    """Examples to evaluate on, the tasks that score them, and the processor that makes their tensors.

    classes: an annotation file whose classes are looked for in every image; those of the store if left out.
    """

    dataset: ExampleDataset
    num_images: int
    tasks: Sequence[str]
    processor: Any  # an MdetrProcessor; a baseline's is an MdetrImageProcessor
    classes: Path | None = None

    @classmethod
    def open(cls, settings: ValidationStore, processor: Any) -> Validation:
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
    share = share_of(accelerator, validation.num_images)
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
            find = _asker_of_classes(model, validation, batch_size)
            scores |= score_detection(validation, share, find, on_progress)
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


def classes_of_validation(validation: Validation) -> list[NamedClass]:
    """The classes that are looked for: those of the file that the recipe names, or of the store."""
    if validation.classes is not None:
        return read_classes(validation.classes)
    return classes_of(validation.dataset.store)


def _asker_of_classes(
    model: MdetrModel, validation: Validation, batch_size: int
) -> Callable[[Tensor], Found]:
    classes = classes_of_validation(validation)
    prompts = ClassPrompts(model, validation.processor, [named.name for named in classes], batch_size)
    numbers = np.array([named.number for named in classes])

    def find(image: Tensor) -> Found:
        _, found = prompts.find(image)
        boxes, scores = (torch.stack(part).float().cpu() for part in zip(*found, strict=True))
        return np.repeat(numbers, scores.shape[1]), boxes.reshape(-1, 4).numpy(), scores.flatten().numpy()

    return find


def score_detection(
    validation: Validation,
    share: Sequence[int],
    find: Callable[[Tensor], Found],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Score what is found in the images of this process's share; every process must call this together.

    Args:
        validation: the images. share: the places of this process's. find: an image, (3, H, W) uint8, ->
            detections. on_progress: called after each image.

    Returns:
        "detection_figure" -> value.
    """
    scorer = DetectionScorer(classes_of_validation(validation))
    for place in share:
        example = validation.dataset[place]
        scorer.update(example.records, find(example.image))
        if on_progress is not None:
            on_progress(1)
    return {f"{DETECTION}_{name}": value for name, value in scorer.compute().items()}


def share_of(accelerator: Accelerator, num_images: int) -> Sequence[int]:
    """The places of the images that this process evaluates."""
    return range(accelerator.process_index, num_images, accelerator.num_processes)
