"""Labels of an image, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mdetr.files import atomic_write
from mdetr.processing.detections import Detections

_SPANS = pa.list_(pa.list_(pa.int32(), 2))
_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("error", pa.string()),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("thresholds", pa.list_(pa.float32()), nullable=False),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("phrases", pa.list_(pa.string()), nullable=False),
        pa.field("spans", pa.list_(_SPANS)),
    ]
)


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """The labels of one image, or of one of its captions.

    Attributes:
        image: Path of the image within the data set.
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        text: The caption; None if classes are detected.
        detections: Boxes with scores down to the margin below their thresholds, best first.
        thresholds: (n,) float32, the threshold of each box.
        error: Reason why the image or the caption cannot be used, which then has no boxes.
    """

    image: str
    width: int
    height: int
    text: str | None
    detections: Detections
    thresholds: NDArray[np.float32]
    error: str | None = None

    @property
    def is_accepted(self) -> NDArray[np.bool_]:
        """(n,) bool, whether each box is a label: its score reaches its threshold."""
        return self.detections.scores >= self.thresholds

    @property
    def accepted(self) -> Detections:
        """The boxes that are labels."""
        return self.detections[self.is_accepted]

    def is_unsure(self, margin: float) -> NDArray[np.bool_]:
        """(n,) bool, whether the score of each box is within a distance from its threshold."""
        return np.abs(self.detections.scores - self.thresholds) <= np.float32(margin)


def failed_image(image: str, error: str, text: str | None = None) -> ImageLabels:
    """Make the entry of an image, or of one of its captions, that cannot be used.

    Args:
        image: Path of the image within the data set.
        error: The reason.
        text: The caption.

    Returns:
        An entry without boxes.
    """
    no_boxes = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), phrases=())
    return ImageLabels(image, 0, 0, text, no_boxes, np.empty(0, np.float32), error)


def write_results(file: Path, labels: Iterable[ImageLabels]) -> None:
    """Write labels to a Parquet file, completely or not at all.

    Args:
        file: File to write; its folder must exist.
        labels: The labels.
    """
    rows = [_to_row(entry) for entry in labels]
    with atomic_write(file) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary, compression="zstd")


def read_results(file: Path) -> Iterator[ImageLabels]:
    """Read the labels of a Parquet file, in order."""
    for row in pq.read_table(file, schema=_SCHEMA).to_pylist():
        spans = None
        if row["spans"] is not None:
            spans = tuple(tuple((start, end) for start, end in entry) for entry in row["spans"])
        detections = Detections(
            np.asarray(row["boxes"], np.float32).reshape(-1, 4),
            np.asarray(row["scores"], np.float32),
            phrases=tuple(row["phrases"]),
            spans=spans,
            labels=None if row["labels"] is None else tuple(row["labels"]),
        )
        thresholds = np.asarray(row["thresholds"], np.float32)
        yield ImageLabels(
            row["image"], row["width"], row["height"], row["text"], detections, thresholds, row["error"]
        )


def _to_row(entry: ImageLabels) -> dict[str, Any]:
    detections = entry.detections
    return {
        "image": entry.image,
        "width": entry.width,
        "height": entry.height,
        "text": entry.text,
        "error": entry.error,
        "boxes": detections.boxes_xyxy.tolist(),
        "scores": detections.scores.tolist(),
        "thresholds": entry.thresholds.tolist(),
        "labels": None if detections.labels is None else list(detections.labels),
        "phrases": list(detections.phrases or ()),
        "spans": None if detections.spans is None else [list(spans) for spans in detections.spans],
    }
