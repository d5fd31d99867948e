"""Registry of the metrics by the name of their task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Protocol

from mdetr.data.record import Record
from mdetr.errors import RecipeError
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.box_average_precision import AveragePrecisionMetric
from mdetr.evaluation.metrics.phrase_grounding import PhraseGroundingMetric
from mdetr.evaluation.metrics.question_answering import QuestionAnsweringMetric
from mdetr.evaluation.metrics.referring_expressions import ReferringMetric
from mdetr.evaluation.metrics.segmentation import SegmentationMetric
from mdetr.model.interface import MdetrOutput
from mdetr.processing.images import Placement
from mdetr.processing.processor import MdetrProcessor


class Metric(Protocol):
    """Keeps the score of one task over the batches of an evaluation."""

    def update(
        self, output: MdetrOutput, records: Sequence[Record], places: Sequence[Placement] | None = None
    ) -> list[ExampleScore]:
        """Score a batch: the model's output for B texts, their B records, and how their images lie in it.

        What comes back is of those records that the task scores one by one.
        """
        ...

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together (every process must call it) and return them by name."""
        ...


METRICS: dict[str, Callable[[MdetrProcessor], Metric]] = {
    "phrase_grounding": PhraseGroundingMetric,
    "phrase_grounding_merged_boxes": partial(PhraseGroundingMetric, protocol="merged_boxes"),
    "referring": ReferringMetric,
    "question_answering": QuestionAnsweringMetric,
    "segmentation": SegmentationMetric,
    "average_precision": AveragePrecisionMetric,
}

DETECTION = "detection"  # asks for every class in every image instead of scoring the answers to given texts
TASKS = (*METRICS, DETECTION)


def make_metric(task: str, processor: MdetrProcessor) -> Metric:
    """Make the metric of a task, empty.

    Args:
        task: a name of `METRICS`.
        processor: the model's own.

    Raises:
        RecipeError: there is no such task.
    """
    if task not in METRICS:
        near = get_close_matches(task, METRICS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(METRICS)}."
        raise RecipeError(f"Expected the name of a task, found {task!r}: {hint}")
    return METRICS[task](processor)
