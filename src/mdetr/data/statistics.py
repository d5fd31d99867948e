"""Statistics of a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdetr.data.image_paths import image_path
from mdetr.data.store import Store
from mdetr.errors import InvalidInputError
from mdetr.files import is_file

COLUMNS = ["source", "split", "image", "image_id", "text", "boxes", "spans", "masks", "answer_type"]
LONG_TEXT = 250  # characters; few texts of this length have more than the model's 256 tokens


@dataclass(frozen=True)
class Statistics:
    """Statistics of a store.

    Attributes:
        rows: Number of rows.
        images: Number of images.
        boxes: Number of boxes.
        boxes_per_row: Minimum, median and maximum number of boxes.
        text_length: Minimum, median and maximum number of characters.
        coverage: Mean fraction of a text's characters in the spans of boxes, over rows with boxes.
        sources: "source/split" -> number of rows.
        answer_types: Answer type -> number of rows.
        masks: Number of rows with masks.
        problems: Possible problem -> number of occurrences.
    """

    rows: int
    images: int
    boxes: int
    boxes_per_row: tuple[float, float, float]
    text_length: tuple[float, float, float]
    coverage: float
    sources: dict[str, int]
    answer_types: dict[str, int]
    masks: int
    problems: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert to types of JSON."""
        return dict(vars(self))


def store_statistics(store: Store) -> Statistics:
    """Compute the statistics from the columns of a store; images are not read."""
    counts: list[int] = []
    lengths: list[int] = []
    covered: list[float] = []
    images: set[str] = set()
    files: set[str] = set()
    sources, answer_types, problems = Counter[str](), Counter[str](), Counter[str]()
    masks = 0

    # Count over all rows
    for batch in store.columns(COLUMNS).to_batches():
        for row in batch.to_pylist():
            counts.append(len(row["boxes"]))
            lengths.append(len(row["text"]))
            images.add(row["image_id"])
            sources[f"{row['source']}/{row['split']}"] += 1
            masks += row["masks"] is not None
            if row["boxes"]:
                covered.append(_coverage(row["text"], row["spans"]))
            if row["answer_type"]:
                answer_types[row["answer_type"]] += 1
            if row["image"] is not None:
                files.add(row["image"])
            problems["rows with a box without words"] += not all(row["spans"])
            problems[f"rows with more than {LONG_TEXT} characters"] += len(row["text"]) > LONG_TEXT

    # Look for each image file once
    problems["images that are missing"] = sum(not _exists(store, name) for name in files)
    return Statistics(
        rows=len(counts),
        images=len(images),
        boxes=sum(counts),
        boxes_per_row=_spread(counts),
        text_length=_spread(lengths),
        coverage=float(np.mean(covered)) if covered else 0.0,
        sources=dict(sources),
        answer_types=dict(answer_types),
        masks=masks,
        problems={name: count for name, count in problems.items() if count},
    )


def _exists(store: Store, name: str) -> bool:
    """Return whether there is an image where training would read it."""
    try:
        return is_file(image_path(store.image_root, name))
    except InvalidInputError:
        return False


def _coverage(text: str, spans: list[list[list[int]]]) -> float:
    """Compute the fraction of the characters of a text in the spans of its boxes."""
    covered: set[int] = set()
    for spans_of_box in spans:
        for start, end in spans_of_box:
            covered.update(range(start, end))
    return len(covered) / max(1, len(text))


def _spread(values: list[int]) -> tuple[float, float, float]:
    if not values:
        return 0.0, 0.0, 0.0
    return float(min(values)), float(np.median(values)), float(max(values))
