"""Results of inference: read, drawn, converted or written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mdetr.inference.stored_image import Picture, StoredImage
from mdetr.processing.coordinates import Box
from mdetr.processing.detections import Detections, Grounding
from mdetr.processing.rle import run_lengths
from mdetr.visualization.picture_files import save_picture
from mdetr.visualization.plot import draw_boxes, draw_groundings, draw_mask

if TYPE_CHECKING:
    import pandas
    import supervision


@dataclass(frozen=True, eq=False)
class Result:
    """What all results have: the image that was searched, and what was found in it.

    A notebook shows a result as its picture.

    Attributes:
        picture: The image, or where it can be read again.
        text: What was searched for.
        detections: What was found, best first.
    """

    picture: Picture = field(repr=False)
    text: str
    detections: Detections

    @property
    def image(self) -> Image.Image:
        """The upright image that was searched.

        Results of many files read it again when it is asked for; keep it if you look at it often.

        Raises:
            InvalidInputError: its file is gone or has changed.
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
        """The words of each box; of detections by name the classes."""
        return self.detections.names

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw what was found; write the picture to `path` where one is given.

        Returns:
            The picture, with the text below it.

        Raises:
            InvalidInputError: the folder is missing, or no picture can be written under the name.
        """
        picture = self._draw()
        if path is not None:
            save_picture(picture, Path(path))
        return picture

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return {"text": self.text, "width": self.picture.width, "height": self.picture.height}

    def to_coco(
        self, image_id: int | str = 0, categories: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Entries of a file of COCO results; see `Detections.to_coco`."""
        return self.detections.to_coco(image_id, categories)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each thing; see `Detections.to_pandas`."""
        return self.detections.to_pandas()

    def to_supervision(self, classes: Sequence[str] | None = None) -> supervision.Detections:
        """The same as supervision's `Detections`; see `Detections.to_supervision`."""
        return self.detections.to_supervision(classes)

    def _draw(self) -> Image.Image:
        return draw_groundings(self.image, self.text, self.detections)

    def _repr_png_(self) -> bytes:
        """The picture, which notebooks show."""
        file = io.BytesIO()
        self.plot().save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True, eq=False)
class GroundingResult(Result, Sequence[Grounding]):
    """The things that a text mentions, as a sequence, best first: each has phrase, spans, box and score."""

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
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return super().to_dict() | {"groundings": [_plain(found) for found in self.detections]}


@dataclass(frozen=True, eq=False)
class ReferringResult(Result):
    """The one thing that an expression as a whole refers to; none where no score reached the threshold."""

    @property
    def box(self) -> Box | None:
        """x0, y0, x1, y1 in pixels of the image; None where nothing was found."""
        return self.detections[0].box if len(self.detections) else None

    @property
    def score(self) -> float | None:
        """1 - p(no object), times p(referred) where the model predicts it; None where nothing was found."""
        referred = self.detections.referred_scores
        scores = self.detections.scores if referred is None else referred
        return float(scores[0]) if len(scores) else None

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; the box is x0, y0, x1, y1 in pixels, or null."""
        box = None if self.box is None else list(self.box)
        return super().to_dict() | {"box": box, "score": self.score}

    def _draw(self) -> Image.Image:
        if self.box is None:
            return draw_groundings(self.image, f"{self.text} \u2013 nothing found", ())
        return draw_boxes(self.image, self.text, [self.box])


@dataclass(frozen=True, eq=False)
class AnswerResult(Result):
    """The answer to a question, and the things in the image that the question mentions.

    Attributes:
        answer: In words.
        answer_type: Its kind, such as "attr"; None where the model does not predict it.
        score: The probability of the answer.
    """

    answer: str
    answer_type: str | None
    score: float

    @property
    def groundings(self) -> tuple[Grounding, ...]:
        """The rows of the detections."""
        return tuple(self.detections)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return super().to_dict() | {
            "answer": self.answer,
            "answer_type": self.answer_type,
            "score": self.score,
            "groundings": [_plain(found) for found in self.detections],
        }

    def _draw(self) -> Image.Image:
        return draw_groundings(self.image, f"{self.text} \u2013 {self.answer}", self.detections)


@dataclass(frozen=True, eq=False)
class SegmentationResult(Result):
    """The pixels that a phrase refers to."""

    @property
    def mask(self) -> Tensor:
        """(H, W) bool, the union of `masks`."""
        return self.masks.any(0)

    @property
    def masks(self) -> Tensor:
        """(n, H, W) bool, of each thing found, best first."""
        assert self.detections.masks is not None
        return torch.from_numpy(self.detections.masks)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; masks are COCO's run lengths of columns, uncompressed."""
        return super().to_dict() | {
            "mask": run_lengths(self.mask),
            "objects": [
                {"box": list(found.box), "score": found.score, "mask": run_lengths(mask)}
                for found, mask in zip(self.detections, self.masks, strict=True)
            ],
        }

    def _draw(self) -> Image.Image:
        return draw_mask(self.image, self.text, self.mask, [found.box for found in self.detections])


@dataclass(frozen=True, eq=False)
class DetectionResult(Result, Sequence[Grounding]):
    """The things of some named classes, as a sequence, best first: each has name, box and score.

    Attributes:
        text: The names, separated by commas.
        names: Of the classes that were asked for.
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
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return {
            "width": self.picture.width,
            "height": self.picture.height,
            "names": list(self.names),
            "detections": [
                {"name": found.name, "box": list(found.box), "score": found.score}
                for found in self.detections
            ],
        }

    def to_coco(
        self, image_id: int | str = 0, categories: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Entries of a file of COCO results; classes are numbered from 1 in the order of `names`."""
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        return super().to_coco(image_id, numbers if categories is None else categories)

    def to_supervision(self, classes: Sequence[str] | None = None) -> supervision.Detections:
        """The same as supervision's `Detections`; class ids are places in `names`."""
        return super().to_supervision(self.names if classes is None else classes)

    def _draw(self) -> Image.Image:
        text, spans = "", dict[str, tuple[int, int]]()  # the names that were found are the picture's caption
        for name in dict.fromkeys(self.labels):
            text += ", " if text else ""
            spans[name] = len(text), len(text) + len(name)
            text += name
        drawn = [Grounding(d.name, (spans[d.name],), d.box, d.score) for d in self.detections]
        return draw_groundings(self.image, text or "nothing found", drawn)


def _plain(found: Grounding) -> dict[str, Any]:
    return {
        "phrase": found.phrase,
        "spans": [list(span) for span in found.spans],
        "box": list(found.box),
        "score": found.score,
    }
