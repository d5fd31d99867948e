"""Evaluation of a model on a validation store, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from mdetr.data.broken_examples import MAX_FRACTION, BrokenExamples, too_many, without_unusable
from mdetr.data.collate import Collator, records_of
from mdetr.data.examples import Example, ExampleDataset
from mdetr.data.held_out import ValidationStore, open_store
from mdetr.data.record import Record
from mdetr.data.unusable import unusable_texts
from mdetr.errors import InvalidInputError, InvalidRecordError, TrainingError
from mdetr.evaluation.distributed import gather_rows
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.contract import Metric
from mdetr.evaluation.metrics.detection import DetectionMetric, NamedClass, classes_of, read_classes
from mdetr.evaluation.metrics.registry import DETECTION, METRICS, make_metric
from mdetr.inference.detection import ClassPrompts
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction
from mdetr.processing.processor import Batch, MdetrProcessor

EVALUATED = "eval_"  # what the names of scores begin with in a run's log and metrics


@dataclass(frozen=True)
class Validation:
    """Examples to evaluate on, the tasks that score them, and the processor that makes their tensors.

    classes: an annotation file whose classes are looked for in every image; those of the store if left out.
    name: what the recipe calls it. broken: the list of what is left out. note: how many records were left out
    when it was opened, in a sentence, and num_left_out as a number.
    """

    dataset: ExampleDataset
    num_images: int
    tasks: Sequence[str]
    processor: Any  # an MdetrProcessor; a baseline's is an MdetrImageProcessor
    classes: Path | None = None
    name: str = "validation"
    broken: BrokenExamples | None = None
    note: str | None = None
    num_left_out: int = 0

    @classmethod
    def open(
        cls,
        settings: ValidationStore,
        processor: Any,
        name: str = "validation",
        broken: BrokenExamples | None = None,
    ) -> Validation:
        """Open the store that a recipe names, without the records whose texts are too long for the model.

        Raises:
            TrainingError: More than 1 % of the records are.
        """
        store, note = open_store(settings), None
        whole = len(store)
        if isinstance(processor, MdetrProcessor):
            (store,), note = without_unusable(name, [store], lambda s: unusable_texts(s, processor), broken)
        dataset = ExampleDataset(store)
        wanted = len(dataset) if settings.max_images is None else min(settings.max_images, len(dataset))
        left_out = whole - len(store)
        return cls(dataset, wanted, settings.tasks, processor, settings.classes, name, broken, note, left_out)

    def read(self, place: int) -> Example | None:
        """Read the example at a place; None, and a line in the list, where it cannot be read."""
        try:
            return self.dataset[place]
        except (InvalidInputError, InvalidRecordError) as error:
            if self.broken is not None:
                store, name = self.dataset.store.path, self.dataset.name_of(place)
                self.broken.add_example(self.name, place, store, name, str(error))
            return None


def evaluate(
    model: MdetrForObjectDetection,
    validation: Validation,
    batch_size: int,
    accelerator: Accelerator,
    on_progress: Callable[[int], None] | None = None,
    on_example_scores: Callable[[str, Sequence[ExampleScore]], None] | None = None,
) -> dict[str, float]:
    """Score a model on a validation store; every process takes its share and all return the same figures.

    Args:
        model: in any mode; it is put back into that mode.
        validation: what to evaluate on.
        batch_size: images a batch on each process, all their texts share them; in detection, names a batch.
        accelerator: knows the processes, the device and the precision.
        on_progress: called with the number of images that this process has finished since the last call.
        on_example_scores: called with a task and what its metric says of each record of a batch.

    Returns:
        "task_figure" -> value, and the counts of `count_images`.

    Raises:
        TrainingError: More than 1 % of the images, and more than one, cannot be read.
    """
    metrics = {task: make_metric(task) for task in validation.tasks if task in METRICS}
    detection = DETECTION in validation.tasks
    share = share_of(accelerator, validation.num_images)
    unreadable: set[int] = set()
    was_training = model.training
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        if metrics:
            collate = Collator(validation.processor, with_targets=False)
            for start in range(0, len(share), batch_size):
                places = share[start : start + batch_size]
                examples = readable(validation, places, unreadable)
                if examples:
                    batch, records = collate.prepare(examples), records_of(examples)
                    _score_batch(model, batch, records, validation.processor, metrics, on_example_scores)
                if on_progress is not None and not detection:
                    on_progress(len(places))
        scores = {
            f"{task}_{name}": value
            for task, metric in metrics.items()
            for name, value in metric.compute().items()
        }
        if detection:
            names = [named.name for named in classes_of_validation(validation)]
            prompts = ClassPrompts(model, validation.processor, names, batch_size)
            scores |= score_detection(validation, share, prompts.detect, unreadable, on_progress)
    model.train(was_training)
    return scores | count_images(validation, unreadable)


def readable(validation: Validation, places: Sequence[int], unreadable: set[int]) -> list[Example]:
    """Read the examples at some places; the places of those that cannot be read go to `unreadable`."""
    read = {place: validation.read(place) for place in places}
    unreadable.update(place for place, example in read.items() if example is None)
    return [example for example in read.values() if example is not None]


def count_images(validation: Validation, unreadable: set[int]) -> dict[str, float]:
    """Count the images of all processes, which must call this together.

    Returns:
        "num_images", which were read, and "left_out", the records and images that could not be used, if any.

    Raises:
        TrainingError: Too many images could not be read.
    """
    count = len(np.unique(gather_rows(np.array(sorted(unreadable), dtype=np.int64))))
    if count and too_many(count, validation.num_images):
        listed = "" if validation.broken is None else f"; they are listed in {validation.broken.file}"
        raise TrainingError(
            f"{count:,} of {validation.num_images:,} images of {validation.name} cannot be read, more than "
            f"{MAX_FRACTION:.0%}{listed}."
        )
    total = count + validation.num_left_out
    counts = {"num_images": float(validation.num_images - count)}
    return counts | ({"left_out": float(total)} if total else {})


def _score_batch(
    model: MdetrForObjectDetection,
    batch: Batch,
    records: Sequence[Record],
    processor: MdetrProcessor,
    metrics: Mapping[str, Metric],
    on_example_scores: Callable[[str, Sequence[ExampleScore]], None] | None,
) -> None:
    output = model(**batch.inputs.to(model.device))
    predictions = processor.post_process_predictions(output, batch.texts, batch.layouts)
    for task, metric in metrics.items():
        example_scores = metric.update(predictions, records)
        if on_example_scores is not None:
            on_example_scores(task, example_scores)


def classes_of_validation(validation: Validation) -> list[NamedClass]:
    """The classes that are looked for: those of the file that the recipe names, or of the store."""
    if validation.classes is not None:
        return read_classes(validation.classes)
    return classes_of(validation.dataset.store)


def score_detection(
    validation: Validation,
    share: Sequence[int],
    find: Callable[[Tensor], Detections],
    unreadable: set[int],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Score what is found in the images of this process's share; every process must call this together.

    Args:
        validation: the images.
        share: the places of this process's.
        find: finds every box of every class in an image, (3, H, W) uint8.
        unreadable: gets the places of images that cannot be read.
        on_progress: called after each image.

    Returns:
        "detection_figure" -> value.
    """
    metric = DetectionMetric(classes_of_validation(validation))
    for place in share:
        for example in readable(validation, [place], unreadable):
            prediction = Prediction(find(example.image))
            metric.update([prediction] * len(example.records), example.records)
        if on_progress is not None:
            on_progress(1)
    return {f"{DETECTION}_{name}": value for name, value in metric.compute().items()}


def share_of(accelerator: Accelerator, num_images: int) -> Sequence[int]:
    """The places of the images that this process evaluates."""
    return range(accelerator.process_index, num_images, accelerator.num_processes)
