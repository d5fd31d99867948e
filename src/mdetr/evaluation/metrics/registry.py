"""Registry of metrics by task name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from mdetr.errors import RecipeError
from mdetr.evaluation.metrics.box_average_precision import AveragePrecisionMetric
from mdetr.evaluation.metrics.contract import Metric
from mdetr.evaluation.metrics.phrase_grounding import PhraseGroundingMetric
from mdetr.evaluation.metrics.question_answering import QuestionAnsweringMetric
from mdetr.evaluation.metrics.referring_expressions import ReferringMetric
from mdetr.evaluation.metrics.segmentation import SegmentationMetric

METRICS: dict[str, Callable[[], Metric]] = {
    "phrase_grounding": PhraseGroundingMetric,
    "phrase_grounding_merged_boxes": partial(PhraseGroundingMetric, protocol="merged_boxes"),
    "referring": ReferringMetric,
    "question_answering": QuestionAnsweringMetric,
    "segmentation": SegmentationMetric,
    "average_precision": AveragePrecisionMetric,
}

DETECTION = "detection"  # `DetectionMetric`, which needs predictions of every class in every image
TASKS = (*METRICS, DETECTION)


def make_metric(task: str) -> Metric:
    """Make the metric of a task.

    Args:
        task: A name of `METRICS`.

    Returns:
        The metric, without any record.

    Raises:
        RecipeError: The task is unknown.
    """
    if task not in METRICS:
        near = get_close_matches(task, METRICS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(METRICS)}."
        raise RecipeError(f"Expected the name of a task, got {task!r}; {hint}")
    return METRICS[task]()
