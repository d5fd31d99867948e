"""Evaluation of a model on a validation store, in one process or many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

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
from mdetr.inference.detector import Detector
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction
from mdetr.processing.processor import Batch, MdetrProcessor

EVALUATED = "eval_"  # prefix of the names of scores in a run's log and metrics


@dataclass(frozen=True)
class Validation:
    """Validation examples, the tasks to score on them, and the processor that prepares them.

    Attributes:
        dataset: The examples, one per image.
        num_images: Number of images to evaluate, the first of the data set.
        tasks: Names of the metrics.
        processor: An `MdetrProcessor`, or an `MdetrImageProcessor` for a baseline.
        classes: Annotation file with the classes to detect; the store's classes if None.
        name: Name of the validation set in the recipe.
        broken: List of the records and images that are left out.
        note: Sentence about the records that were left out on opening; None if there were none.
        num_left_out: Number of these records.
    """

    dataset: ExampleDataset
    num_images: int
    tasks: Sequence[str]
    processor: Any
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
        """Open the store of a recipe's validation set, without the records whose texts are too long.

        Args:
            settings: Store, tasks, classes and number of images.
            processor: An `MdetrProcessor`, or an `MdetrImageProcessor` for a baseline.
            name: Name of the validation set in the recipe.
            broken: List to add left out records and images to.

        Returns:
            The validation set.

        Raises:
            TrainingError: More than 1 % of the records have texts that are too long for the model.
        """
        # Leave out the records that the model cannot read
        store, note = open_store(settings), None
        num_records = len(store)
        if isinstance(processor, MdetrProcessor):
            (store,), note = without_unusable(name, [store], lambda s: unusable_texts(s, processor), broken)

        # Keep the first images
        dataset = ExampleDataset(store)
        num_images = len(dataset)
        if settings.max_images is not None:
            num_images = min(settings.max_images, num_images)
        return cls(
            dataset=dataset,
            num_images=num_images,
            tasks=settings.tasks,
            processor=processor,
            classes=settings.classes,
            name=name,
            broken=broken,
            note=note,
            num_left_out=num_records - len(store),
        )

    def read(self, index: int) -> Example | None:
        """Read an example.

        Args:
            index: Index in the data set.

        Returns:
            The example; None where it cannot be read, which is added to the list of what is left out.
        """
        try:
            return self.dataset[index]
        except (InvalidInputError, InvalidRecordError) as error:
            if self.broken is not None:
                store, name = self.dataset.store.path, self.dataset.name_of(index)
                self.broken.add_example(self.name, index, store, name, str(error))
            return None


def evaluate(
    model: Detector,
    validation: Validation,
    batch_size: int,
    accelerator: Accelerator,
    on_progress: Callable[[int], None] | None = None,
    on_example_scores: Callable[[str, Sequence[ExampleScore]], None] | None = None,
) -> dict[str, float]:
    """Score a model on a validation store; each process evaluates some of the images.

    Args:
        model: The model, in any mode; its mode is restored.
        validation: Validation set.
        batch_size: Number of images per batch on each process, with all their texts; in detection, number of
            class names per batch.
        accelerator: Processes, device and precision.
        on_progress: Called with the number of images that this process has finished since the last call.
        on_example_scores: Called with a task and its metric's scores of the records of a batch.

    Returns:
        "task_score" -> value, and the counts of `count_images`, the same on all processes.

    Raises:
        TrainingError: More than 1 % of the images, and more than one, cannot be read.
    """
    metrics = {task: make_metric(task) for task in validation.tasks if task in METRICS}
    with_detection = DETECTION in validation.tasks
    indices = indices_of_process(accelerator, validation.num_images)
    unreadable: set[int] = set()
    was_training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    with torch.inference_mode(), accelerator.autocast():
        # Predict for the texts of each image once, for all metrics of texts
        if metrics:
            collate = Collator(validation.processor, with_targets=False)
            for start in range(0, len(indices), batch_size):
                batch_indices = indices[start : start + batch_size]
                examples = read_examples(validation, batch_indices, unreadable)
                if examples:
                    batch, records = collate.prepare(examples), records_of(examples)
                    _score_batch(model, batch, records, validation.processor, metrics, on_example_scores)
                if on_progress is not None and not with_detection:
                    on_progress(len(batch_indices))

        # Combine the scores of all processes
        scores: dict[str, float] = {}
        for task, metric in metrics.items():
            for name, value in metric.compute().items():
                scores[f"{task}_{name}"] = value

        # Detect every class in each image
        if with_detection:
            names = [named.name for named in classes_of_validation(validation)]
            prompts = ClassPrompts(model, validation.processor, names, batch_size)
            scores |= score_detection(validation, indices, prompts.detect, unreadable, on_progress)
    if isinstance(model, nn.Module):
        model.train(was_training)
    return scores | count_images(validation, unreadable)


def read_examples(validation: Validation, indices: Sequence[int], unreadable: set[int]) -> list[Example]:
    """Read examples.

    Args:
        validation: Validation set.
        indices: Indices in its data set.
        unreadable: Receives the indices of the examples that cannot be read.

    Returns:
        The examples that can be read.
    """
    examples = []
    for index in indices:
        example = validation.read(index)
        if example is None:
            unreadable.add(index)
        else:
            examples.append(example)
    return examples


def count_images(validation: Validation, unreadable: set[int]) -> dict[str, float]:
    """Count the images of all processes; every process must call this at the same time.

    Args:
        validation: Validation set.
        unreadable: Indices of this process's examples that could not be read.

    Returns:
        "num_images", the number of images that were read, and "left_out", the number of records and images
        that could not be used, if any.

    Raises:
        TrainingError: Too many images could not be read.
    """
    # Refuse a score of too few of the images
    count = len(np.unique(gather_rows(np.array(sorted(unreadable), dtype=np.int64))))
    if count and too_many(count, validation.num_images):
        listed = "" if validation.broken is None else f"; they are listed in {validation.broken.file}"
        raise TrainingError(
            f"{count:,} of {validation.num_images:,} images of {validation.name} cannot be read, more than "
            f"{MAX_FRACTION:.0%}{listed}."
        )

    # Count
    counts = {"num_images": float(validation.num_images - count)}
    left_out = count + validation.num_left_out
    if left_out:
        counts["left_out"] = float(left_out)
    return counts


def _score_batch(
    model: Detector,
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
    """Classes to detect.

    Args:
        validation: Validation set.

    Returns:
        The classes of its annotation file, or else of its store.
    """
    if validation.classes is not None:
        return read_classes(validation.classes)
    return classes_of(validation.dataset.store)


def score_detection(
    validation: Validation,
    indices: Sequence[int],
    detect: Callable[[Tensor], Detections],
    unreadable: set[int],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Score detections of every class; every process must call this at the same time.

    Args:
        validation: Validation set.
        indices: Indices of the images that this process evaluates.
        detect: Detects every class in an image, (3, H, W) uint8.
        unreadable: Receives the indices of images that cannot be read.
        on_progress: Called after each image with 1.

    Returns:
        "detection_score" -> value.
    """
    metric = DetectionMetric(classes_of_validation(validation))
    for index in indices:
        for example in read_examples(validation, [index], unreadable):
            prediction = Prediction(detect(example.image))
            metric.update([prediction] * len(example.records), example.records)
        if on_progress is not None:
            on_progress(1)
    return {f"{DETECTION}_{name}": value for name, value in metric.compute().items()}


def indices_of_process(accelerator: Accelerator, num_images: int) -> Sequence[int]:
    """Indices of the images that this process evaluates.

    Args:
        accelerator: The processes.
        num_images: Number of images of all processes.

    Returns:
        Every n-th index, for n processes.
    """
    return range(accelerator.process_index, num_images, accelerator.num_processes)
