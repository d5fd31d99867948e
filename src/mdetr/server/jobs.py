"""Jobs of the worker, and their outcomes.

The process that answers HTTP requests imports this module, and not the one that runs the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mdetr.inference.queries import Query


@dataclass(frozen=True)
class Job:
    """What a client requests.

    Attributes:
        query: The task, and the text or the class names.
        image: Content of the image's file.
        threshold: Minimum score, from 0 to 1; None for the default of the task.
        max_overlap: Maximum intersection over union of two boxes of a class, for detection; None for the
            default.
        labels: Pairs of a class name and its label, for detection; the boxes are those of the labels, of
            which several names may have the same.
    """

    query: Query
    image: bytes = field(repr=False)
    threshold: float | None = None
    max_overlap: float | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a job, or the reason why there is none.

    Attributes:
        content: The result, as its `to_dict` gives it.
        error: One sentence, if the image or the text cannot be used.
        is_cached: Whether the image was already encoded.
        batch_size: Number of jobs that were processed together.
    """

    content: dict[str, Any] | None
    error: str | None = None
    is_cached: bool = False
    batch_size: int = 1
