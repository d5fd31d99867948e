"""Results of inference, which can be drawn, converted and written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdetr.inference.stored_image import Picture, StoredImage
from mdetr.processing.coordinates import Box, Span
from mdetr.processing.detections import Detections, Grounding
from mdetr.processing.rle import run_lengths
from mdetr.visualization.picture_files import save_picture
from mdetr.visualization.plot import draw_boxes, draw_groundings, draw_mask

if TYPE_CHECKING:
    import pandas
    import supervision


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results: an image, a text, and the detections in the image.

    A notebook shows a result as a picture.

    Attributes:
        picture: The image, or a reference to its file.
        text: The text of the query.
        detections: The detections, best first.
    """

    picture: Picture = field(repr=False)
    text: str
    detections: Detections

    @property
    def image(self) -> Image.Image:
        """The upright image; results for files read the file again at every access.

        Raises:
            InvalidInputError: The file no longer exists or has changed.
        """
        return self.picture.load() if isinstance(self.picture, StoredImage) else self.picture

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(n, 4) float32, x0, y0, x1, y1 in pixels of the image, best first."""
        return self.detections.boxes_xyxy

    @property
    def scores(self) -> NDArray[np.float32]:
        """(n,) float32, 1 - p(no object) of each box."""
        return self.detections.scores

    @property
    def phrases(self) -> tuple[str, ...]:
        """The words of each box, or its class in a detection by name."""
        return self.detections.names

    @property
    def ranking_scores(self) -> NDArray[np.float32]:
        """(n,) float32, the scores that the threshold of the task applies to."""
        return self.scores

    def with_detections(self, detections: Detections) -> Self:
        """Replace the detections, for example by a selection of them."""
        return replace(self, detections=detections)

    def with_nms(self, max_overlap: float) -> Self:
        """Remove boxes that overlap a better one of the same phrase; see `Detections.with_nms`."""
        return self.with_detections(self.detections.with_nms(max_overlap))

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the detections on the image.

        Args:
            path: File to write the picture to, if any.

        Returns:
            The picture, with the text below it.

        Raises:
            InvalidInputError: The folder does not exist, or the name has no suffix of an image format.
        """
        picture = self._draw()
        if path is not None:
            save_picture(picture, Path(path))
        return picture

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; boxes are x0, y0, x1, y1 in pixels."""
        return {"text": self.text, "width": self.picture.width, "height": self.picture.height}

    def to_coco(
        self, image_id: int | str = 0, categories: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Convert to entries of a COCO results file; see `Detections.to_coco`."""
        return self.detections.to_coco(image_id, categories)

    def to_pandas(self) -> pandas.DataFrame:
        """Convert to a table with one row per object; see `Detections.to_pandas`."""
        return self.detections.to_pandas()

    def to_supervision(self, classes: Sequence[str] | None = None) -> supervision.Detections:
        """Convert to `supervision.Detections`; see `Detections.to_supervision`."""
        return self.detections.to_supervision(classes)

    def _draw(self) -> Image.Image:
        return draw_groundings(self.image, self.text, self.detections)

    def _repr_png_(self) -> bytes:
        """Draw the picture that notebooks show."""
        file = io.BytesIO()
        self.plot().save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True, eq=False)
class GroundingResult(Result, Sequence[Grounding]):
    """The objects that a text mentions, as a sequence, best first: each has phrase, spans, box and score."""

    @property
    def groundings(self) -> tuple[Grounding, ...]:
        """The rows of the detections."""
        return tuple(self.detections)

    @overload
    def __getitem__(self, index: int) -> Grounding: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Grounding]: ...

    def __getitem__(self, index: int | slice) -> Grounding | Sequence[Grounding]:
        return self.groundings[index]

    def __len__(self) -> int:
        return len(self.detections)

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; boxes are x0, y0, x1, y1 in pixels."""
        return super().to_dict() | {"groundings": [_to_dict(grounding) for grounding in self.detections]}


@dataclass(frozen=True, eq=False)
class ReferringResult(Result):
    """The object that an expression as a whole refers to; none if no score reaches the threshold."""

    @property
    def box(self) -> Box | None:
        """x0, y0, x1, y1 in pixels of the image, if there is a detection."""
        return self.detections[0].box if len(self.detections) else None

    @property
    def score(self) -> float | None:
        """1 - p(no object), times p(referred) if the model predicts it, if there is a detection."""
        return float(self.ranking_scores[0]) if len(self.detections) else None

    @property
    def ranking_scores(self) -> NDArray[np.float32]:
        """(n,) float32, the scores times p(referred), if the model predicts it."""
        referred = self.detections.referred_scores
        return self.scores if referred is None else referred

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; the box is x0, y0, x1, y1 in pixels, or null."""
        box = None if self.box is None else list(self.box)
        return super().to_dict() | {"box": box, "score": self.score}

    def _draw(self) -> Image.Image:
        if self.box is None:
            return draw_groundings(self.image, f"{self.text} \u2013 nothing found", ())
        return draw_boxes(self.image, self.text, [self.box])


@dataclass(frozen=True, eq=False)
class AnswerResult(Result):
    """The answer to a question, and the objects that the question mentions.

    Attributes:
        answer: The answer in words.
        answer_type: Type of the answer, such as "attr"; None if the model does not predict it.
        score: Probability of the answer.
    """

    answer: str
    answer_type: str | None
    score: float

    @property
    def groundings(self) -> tuple[Grounding, ...]:
        """The rows of the detections."""
        return tuple(self.detections)

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; boxes are x0, y0, x1, y1 in pixels."""
        return super().to_dict() | {
            "answer": self.answer,
            "answer_type": self.answer_type,
            "score": self.score,
            "groundings": [_to_dict(grounding) for grounding in self.detections],
        }

    def _draw(self) -> Image.Image:
        return draw_groundings(self.image, f"{self.text} \u2013 {self.answer}", self.detections)


@dataclass(frozen=True, eq=False)
class SegmentationResult(Result):
    """The pixels that a phrase refers to."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, the union of `masks`."""
        return np.logical_or.reduce(self.masks)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(n, H, W) bool, mask of each object, best first."""
        assert self.detections.masks is not None
        return self.detections.masks

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; masks are COCO uncompressed RLE."""
        objects: list[dict[str, Any]] = []
        for detection, mask in zip(self.detections, self.masks, strict=True):
            objects.append({"box": list(detection.box), "score": detection.score, "mask": run_lengths(mask)})
        return super().to_dict() | {"mask": run_lengths(self.mask), "objects": objects}

    def _draw(self) -> Image.Image:
        return draw_mask(self.image, self.text, self.mask, [detection.box for detection in self.detections])


@dataclass(frozen=True, eq=False)
class DetectionResult(Result, Sequence[Grounding]):
    """The objects of named classes, as a sequence, best first: each has a name, a box and a score.

    Attributes:
        text: The names, separated by commas.
        names: Names of all classes of the query.
    """

    names: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class of each box."""
        return self.detections.names

    @overload
    def __getitem__(self, index: int) -> Grounding: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Grounding]: ...

    def __getitem__(self, index: int | slice) -> Grounding | Sequence[Grounding]:
        return tuple(self.detections)[index]

    def __len__(self) -> int:
        return len(self.detections)

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; boxes are x0, y0, x1, y1 in pixels."""
        return {
            "width": self.picture.width,
            "height": self.picture.height,
            "names": list(self.names),
            "detections": [
                {"name": detection.name, "box": list(detection.box), "score": detection.score}
                for detection in self.detections
            ],
        }

    def to_coco(
        self, image_id: int | str = 0, categories: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Convert to entries of a COCO results file; classes are numbered from 1 in the order of `names`."""
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        return super().to_coco(image_id, numbers if categories is None else categories)

    def to_supervision(self, classes: Sequence[str] | None = None) -> supervision.Detections:
        """Convert to `supervision.Detections`; class ids are indices into `names`."""
        return super().to_supervision(self.names if classes is None else classes)

    def _draw(self) -> Image.Image:
        # The detected names are the caption of the picture
        text, spans = "", dict[str, Span]()
        for name in dict.fromkeys(self.labels):
            text += ", " if text else ""
            spans[name] = len(text), len(text) + len(name)
            text += name
        drawn = [Grounding(d.name, (spans[d.name],), d.box, d.score) for d in self.detections]
        return draw_groundings(self.image, text or "nothing found", drawn)


def _to_dict(grounding: Grounding) -> dict[str, Any]:
    return {
        "phrase": grounding.phrase,
        "spans": [list(span) for span in grounding.spans],
        "box": list(grounding.box),
        "score": grounding.score,
    }
