"""Predictors of the tasks that query an image with one text: what each makes of the model's output."""

from __future__ import annotations

from pathlib import Path

from mdetr.checkpoints.abilities import check_ability
from mdetr.checkpoints.registry import Task
from mdetr.errors import InvalidInputError
from mdetr.inference.batching import Batch, Predictor
from mdetr.inference.detector import Detector, config_fields
from mdetr.inference.results import AnswerResult, GroundingResult, ReferringResult, SegmentationResult
from mdetr.model.predictions import Predictions
from mdetr.processing.array_processor import ArrayProcessor, is_fraction


def grounding_predictor(
    model: Detector,
    processor: ArrayProcessor,
    threshold: float | None,
    batch_size: int,
    channel_order: str,
) -> Predictor[GroundingResult]:
    """Make the predictor of `Mdetr.ground`."""
    threshold = processor.threshold_or_default(threshold)

    def to_results(output: Predictions, batch: Batch) -> list[GroundingResult]:
        detections = processor.post_process_grounding(output, batch.texts, batch.sizes, threshold)
        return list(map(GroundingResult, batch.images, batch.captions, detections))

    return Predictor(model, processor, to_results, batch_size, channel_order)


def referring_predictor(
    model: Detector,
    processor: ArrayProcessor,
    threshold: float,
    batch_size: int,
    channel_order: str,
) -> Predictor[ReferringResult]:
    """Make the predictor of `Mdetr.refer`."""
    check_fraction("threshold", threshold)

    def to_results(output: Predictions, batch: Batch) -> list[ReferringResult]:
        detections = processor.post_process_referring(output, batch.captions, batch.sizes, threshold)
        return list(map(ReferringResult, batch.images, batch.captions, detections))

    return Predictor(model, processor, to_results, batch_size, channel_order)


def answer_predictor(
    model: Detector,
    processor: ArrayProcessor,
    threshold: float | None,
    batch_size: int,
    channel_order: str,
) -> Predictor[AnswerResult]:
    """Make the predictor of `Mdetr.answer`."""
    threshold = processor.threshold_or_default(threshold)
    _check_ability(model, Task.ANSWERING)

    def to_results(output: Predictions, batch: Batch) -> list[AnswerResult]:
        answers = processor.post_process_answers(output)
        detections = processor.post_process_grounding(output, batch.texts, batch.sizes, threshold)
        rows = zip(batch.images, batch.captions, detections, answers, strict=True)
        return [AnswerResult(image, text, boxes, *answer) for image, text, boxes, answer in rows]

    return Predictor(model, processor, to_results, batch_size, channel_order)


def segmentation_predictor(
    model: Detector,
    processor: ArrayProcessor,
    threshold: float | None,
    batch_size: int,
    channel_order: str,
) -> Predictor[SegmentationResult]:
    """Make the predictor of `Mdetr.segment`."""
    threshold = processor.threshold_or_default(threshold)
    _check_ability(model, Task.SEGMENTATION)

    def to_results(output: Predictions, batch: Batch) -> list[SegmentationResult]:
        detections = processor.post_process_segmentation(output, batch.captions, batch.layouts, threshold)
        return list(map(SegmentationResult, batch.images, batch.captions, detections))

    return Predictor(model, processor, to_results, batch_size, channel_order)


def model_name(model: Detector) -> str:
    """Return the name of a model for messages."""
    return Path(model.name_or_path or "").name or "unnamed"


def check_fraction(name: str, value: float) -> None:
    """Check that an argument is between 0 and 1.

    Args:
        name: Name of the argument, for the message.
        value: Its value.

    Raises:
        InvalidInputError: It is not.
    """
    if not is_fraction(value):
        raise InvalidInputError(f"Expected {name} between 0 and 1, got {value}.")


def _check_ability(model: Detector, task: Task) -> None:
    check_ability(config_fields(model), task, model_name(model))
