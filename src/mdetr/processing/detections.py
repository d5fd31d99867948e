"""`Detections`: the predictions for one image, as arrays of the same length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.processing.boxes import suppress_overlapping
from mdetr.processing.coordinates import Box, Spans
from mdetr.processing.rle import encode_masks, run_lengths

if TYPE_CHECKING:
    import pandas
    import supervision

MAX_OVERLAP = 0.7
"""Default maximum of the intersection over union of two boxes of the same name."""

GAP = " ... "
"""Stands for omitted words within a phrase."""


@dataclass(frozen=True)
class Grounding:
    """One predicted object: a row of `Detections`.

    Attributes:
        phrase: Its words, with " ... " for words in between that do not belong to it; or its class.
        spans: Position of the words in the text, in characters, end exclusive; empty for a detection by name.
        box: x0, y0, x1, y1 in pixels of the image.
        score: 1 - p(no object).
    """

    phrase: str
    spans: Spans
    box: Box
    score: float

    @property
    def name(self) -> str:
        """Same as `phrase`, for a detection by class name."""
        return self.phrase


@dataclass(frozen=True, eq=False)
class Detections(Sequence[Grounding]):
    """Predicted objects of one image, as arrays of the same length n; usually sorted by score, best first.

    It is a sequence of rows: an integer index gives a `Grounding`; a slice, a mask (n,) or several indices
    give `Detections`.

    Args:
        boxes_xyxy: (n, 4) float32, x0, y0, x1, y1 in pixels of the original image.
        scores: (n,) float32, 1 - p(no object).
        phrases: n strings, the words of each object; None for detection by name.
        spans: For each object, the position of its words in the text, in characters, end exclusive.
        labels: n class names; None for a grounded text.
        masks: (n, H, W) bool, in pixels of the original image.
        referred_scores: (n,) float32, score * p(the text as a whole refers to the object).

    Raises:
        InvalidInputError: The arrays differ in length, or a box is not four numbers.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    phrases: tuple[str, ...] | None = None
    spans: tuple[Spans, ...] | None = None
    labels: tuple[str, ...] | None = None
    masks: NDArray[np.bool_] | None = None
    referred_scores: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Convert the arguments to the types above, and check their lengths."""
        boxes = np.asarray(self.boxes_xyxy, np.float32)
        if boxes.size and boxes.shape[-1] != 4:
            raise InvalidInputError(f"Expected four numbers for each box in Detections, got {boxes.shape}.")
        values = {
            "boxes_xyxy": boxes.reshape(-1, 4),
            "scores": np.asarray(self.scores, np.float32),
            "phrases": None if self.phrases is None else tuple(self.phrases),
            "spans": None if self.spans is None else tuple(self.spans),
            "labels": None if self.labels is None else tuple(self.labels),
            "masks": None if self.masks is None else np.asarray(self.masks, np.bool_),
            "referred_scores": None
            if self.referred_scores is None
            else np.asarray(self.referred_scores, np.float32),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        lengths = {name: len(value) for name, value in values.items() if value is not None}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise InvalidInputError(f"Expected arrays of the same length in Detections, got {listed}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each object: its label, or its phrase if there are no labels."""
        names = self.labels if self.labels is not None else self.phrases
        return ("",) * len(self) if names is None else names

    def with_nms(self, max_overlap: float, across_names: bool = False) -> Detections:
        """Remove boxes that overlap a better one (non-maximum suppression).

        Args:
            max_overlap: Maximum intersection over union with a better box, from 0 to 1; 1 keeps all boxes.
            across_names: Whether boxes of other names count too, for data sets in which each object has one
                class; by default only boxes of the same name are compared.

        Returns:
            The remaining boxes, best first.
        """
        names = ("",) * len(self) if across_names else self.names
        return self[suppress_overlapping(self.boxes_xyxy, self.scores, names, max_overlap)]

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Grounding: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Detections: ...

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Grounding | Detections:
        if isinstance(index, int | np.integer):
            x0, y0, x1, y1 = self.boxes_xyxy[index].tolist()
            spans = () if self.spans is None else self.spans[index]
            return Grounding(self.names[index], spans, (x0, y0, x1, y1), float(self.scores[index]))
        if not isinstance(index, slice):
            index = (
                np.asarray(index) if len(index) else np.empty(0, np.intp)
            )  # numpy makes floats of an empty list
        indices = np.arange(len(self))[index]
        return Detections(
            self.boxes_xyxy[indices],
            self.scores[indices],
            phrases=_select(self.phrases, indices),
            spans=_select(self.spans, indices),
            labels=_select(self.labels, indices),
            masks=None if self.masks is None else self.masks[indices],
            referred_scores=None if self.referred_scores is None else self.referred_scores[indices],
        )

    def __iter__(self) -> Iterator[Grounding]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{row.phrase!r} {row.score:.2f}" for row in list(self)[:5])
        return f"Detections({len(self)}: {shown}{', ...' if len(self) > 5 else ''})"

    def to_dict(self) -> dict[str, Any]:
        """Convert the arrays to what JSON can hold; arrays that are None are left out.

        Returns:
            Lists under the names of the arrays; masks are COCO uncompressed RLE.
        """
        content: dict[str, Any] = {"boxes_xyxy": self.boxes_xyxy.tolist(), "scores": self.scores.tolist()}
        if self.phrases is not None:
            content["phrases"] = list(self.phrases)
        if self.spans is not None:
            content["spans"] = [[list(span) for span in spans] for spans in self.spans]
        if self.labels is not None:
            content["labels"] = list(self.labels)
        if self.masks is not None:
            content["masks"] = [run_lengths(mask) for mask in self.masks]
        if self.referred_scores is not None:
            content["referred_scores"] = self.referred_scores.tolist()
        return content

    def to_coco(
        self, image_id: int | str = 0, categories: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Convert to entries of a COCO results file.

        Args:
            image_id: Id of the image.
            categories: Id of each label or phrase; by default numbered from 1 in order of appearance.

        Returns:
            For each object image_id, category_id, bbox (x, y, width, height in pixels), score, its name as
            `phrase`, and if there are masks, the segmentation as compressed RLE.

        Raises:
            InvalidInputError: A label or phrase is not in `categories`.
            MissingDependencyError: There are masks, but faster-coco-eval is not installed.
        """
        numbers = _numbered(self.names, 1) if categories is None else categories
        if unknown := [name for name in self.names if name not in numbers]:
            raise InvalidInputError(f"There is no category for {unknown[0]!r}; give its id in categories.")
        entries: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": numbers[row.phrase],
                "bbox": [row.box[0], row.box[1], row.box[2] - row.box[0], row.box[3] - row.box[1]],
                "score": row.score,
                "phrase": row.phrase,
            }
            for row in self
        ]
        if self.masks is not None and len(self):
            encoded = encode_masks(self.masks.astype(np.uint8))
            for entry, counts in zip(entries, encoded, strict=True):
                entry["segmentation"] = {"size": list(self.masks.shape[1:]), "counts": counts.decode("ascii")}
        return entries

    def to_pandas(self) -> pandas.DataFrame:
        """Convert to a table with one row per object.

        Returns:
            Columns label or phrase, score, x0, y0, x1, y1, and spans and referred_score if they are known.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingDependencyError(
                "to_pandas needs the package pandas; install it with `pip install pandas`."
            ) from None
        columns: dict[str, Any] = {
            "phrase" if self.labels is None else "label": list(self.names),
            "score": self.scores,
            "x0": self.boxes_xyxy[:, 0],
            "y0": self.boxes_xyxy[:, 1],
            "x1": self.boxes_xyxy[:, 2],
            "y1": self.boxes_xyxy[:, 3],
        }
        if self.spans is not None:
            columns["spans"] = list(self.spans)
        if self.referred_scores is not None:
            columns["referred_score"] = self.referred_scores
        return pandas.DataFrame(columns)

    def to_supervision(self, classes: Sequence[str] | None = None) -> supervision.Detections:
        """Convert to `supervision.Detections`, for its annotators, trackers and metrics.

        Args:
            classes: All possible names, in the order of their class ids; by default names are numbered from 0
                in order of appearance.

        Returns:
            Detections with the names in `data["class_name"]`.

        Raises:
            InvalidInputError: A label or phrase is not among `classes`.
            MissingDependencyError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise MissingDependencyError(
                "to_supervision needs the package supervision; install it with `pip install supervision`."
            ) from None
        numbers = _numbered(self.names if classes is None else classes, 0)
        if unknown := [name for name in self.names if name not in numbers]:
            raise InvalidInputError(f"{unknown[0]!r} is not among the classes; add it.")
        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            mask=self.masks,
            confidence=self.scores,
            class_id=np.array([numbers[name] for name in self.names], np.int64),
            data={"class_name": np.array(self.names, np.str_)},
        )


def _select(values: tuple[Any, ...] | None, indices: NDArray[np.intp]) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values[index] for index in indices)


def _numbered(names: Sequence[str], start: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names), start)}
