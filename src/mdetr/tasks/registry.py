"""The name of a task in, its scorer out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Protocol

from mdetr.data.record import Record
from mdetr.errors import RecipeError
from mdetr.images import Placement
from mdetr.model.interface import MdetrOutput
from mdetr.processor import MdetrProcessor
from mdetr.tasks.average_precision import AveragePrecisionScorer
from mdetr.tasks.grounding import PhraseGroundingScorer
from mdetr.tasks.judgement import Judgement
from mdetr.tasks.question_answering import QuestionAnsweringScorer
from mdetr.tasks.referring import ReferringScorer
from mdetr.tasks.segmentation import SegmentationScorer


class Scorer(Protocol):
    """Keeps the score of one task over the batches of an evaluation."""

    def update(
        self, output: MdetrOutput, records: Sequence[Record], places: Sequence[Placement] | None = None
    ) -> list[Judgement]:
        """Score a batch: the model's output for B texts, their B records, and how their images lie in it.

        What comes back is of those records that the task judges one by one.
        """
        ...

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together (every process must call it) and return them by name."""
        ...


SCORERS: dict[str, Callable[[MdetrProcessor], Scorer]] = {
    "phrase_grounding": PhraseGroundingScorer,
    "phrase_grounding_merged_boxes": partial(PhraseGroundingScorer, protocol="merged_boxes"),
    "referring": ReferringScorer,
    "question_answering": QuestionAnsweringScorer,
    "segmentation": SegmentationScorer,
    "average_precision": AveragePrecisionScorer,
}

DETECTION = "detection"  # asks for every class in every image instead of scoring the answers to given texts
TASKS = (*SCORERS, DETECTION)


def make_scorer(task: str, processor: MdetrProcessor) -> Scorer:
    """Make the scorer of a task, empty.

    Args:
        task: a name of `SCORERS`.
        processor: the model's own.

    Raises:
        RecipeError: there is no such task.
    """
    if task not in SCORERS:
        near = get_close_matches(task, SCORERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(SCORERS)}."
        raise RecipeError(f"Expected the name of a task, found {task!r}: {hint}")
    return SCORERS[task](processor)
