"""Registry of the metrics by the name of their task."""

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

DETECTION = "detection"  # `DetectionMetric`, whose predictions are of every class in every image
TASKS = (*METRICS, DETECTION)


def make_metric(task: str) -> Metric:
    """Make the metric of a task, empty.

    Args:
        task: a name of `METRICS`.

    Raises:
        RecipeError: there is no such task.
    """
    if task not in METRICS:
        near = get_close_matches(task, METRICS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(METRICS)}."
        raise RecipeError(f"Expected the name of a task, found {task!r}: {hint}")
    return METRICS[task]()
