"""Results: what was found in one image for one text, ready to be read, drawn or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from PIL import Image
from torch import Tensor

from mdetr.inference.detection import Detection
from mdetr.inference.stored_image import Picture, StoredImage
from mdetr.post_processing import Box, Grounding
from mdetr.rle import run_lengths
from mdetr.ui.pictures import save_picture
from mdetr.ui.plot import draw_boxes, draw_groundings, draw_mask


@dataclass(frozen=True)
class _Result:
    """What all results have: the image that was searched.

    picture: the image, or where it can be read again.
    """

    picture: Picture = field(repr=False)

    @property
    def image(self) -> Image.Image:
        """The upright image that was searched.

        Results of many files read it again when it is asked for; keep it if you look at it often.

        Raises:
            InvalidInputError: its file is gone or has changed.
        """
        return self.picture.load() if isinstance(self.picture, StoredImage) else self.picture


@dataclass(frozen=True)
class GroundingResult(_Result, Sequence[Grounding]):
    """The things that a text speaks of, as a sequence, best first.

    image: what was searched. text: what was searched for. groundings: each with phrase, spans, box, score.
    """

    text: str
    groundings: tuple[Grounding, ...]

    @overload
    def __getitem__(self, index: int) -> Grounding: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Grounding]: ...

    def __getitem__(self, index: int | slice) -> Grounding | Sequence[Grounding]:
        return self.groundings[index]

    def __len__(self) -> int:
        return len(self.groundings)

    def __iter__(self) -> Iterator[Grounding]:
        return iter(self.groundings)

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the boxes and the coloured words; write the picture to `path` where one is given.

        Raises:
            InvalidInputError: the folder is missing, or no picture can be written under the name.
        """
        return _write(draw_groundings(self.image, self.text, self.groundings), path)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return _head(self.picture, self.text) | {"groundings": [_plain(found) for found in self.groundings]}


@dataclass(frozen=True)
class ReferringResult(_Result):
    """The one thing that an expression denotes.

    image: what was searched. text: the expression. box: x0, y0, x1, y1 in pixels. score: 1 - p(no object),
    times p(referred) where the model tells.
    """

    text: str
    box: Box
    score: float

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the box; write the picture to `path` where one is given.

        Raises:
            InvalidInputError: the folder is missing, or no picture can be written under the name.
        """
        return _write(draw_boxes(self.image, self.text, [self.box]), path)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; the box is x0, y0, x1, y1 in pixels."""
        return _head(self.picture, self.text) | {"box": list(self.box), "score": self.score}


@dataclass(frozen=True)
class AnswerResult(_Result):
    """The answer to a question, and the things in the image that the question speaks of.

    image: what was looked at. text: the question. answer: in words. answer_type: its kind, such as "attr";
    None where the model does not tell. score: the probability of the answer. groundings: best first.
    """

    text: str
    answer: str
    answer_type: str | None
    score: float
    groundings: tuple[Grounding, ...]

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the question with its boxes and the answer; write the picture to `path` where one is given.

        Raises:
            InvalidInputError: the folder is missing, or no picture can be written under the name.
        """
        return _write(draw_groundings(self.image, f"{self.text} \u2013 {self.answer}", self.groundings), path)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return _head(self.picture, self.text) | {
            "answer": self.answer,
            "answer_type": self.answer_type,
            "score": self.score,
            "groundings": [_plain(found) for found in self.groundings],
        }


@dataclass(frozen=True)
class SegmentationResult(_Result):
    """The pixels that a phrase denotes.

    image: what was searched. text: the phrase. mask: (H, W) bool, the union of `masks`. boxes: x0, y0, x1, y1
    in pixels, masks: (n, H, W) bool, scores: 1 - p(no object), of each thing found, best first.
    """

    text: str
    mask: Tensor = field(repr=False)
    boxes: tuple[Box, ...]
    masks: Tensor = field(repr=False)
    scores: tuple[float, ...]

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the mask and the boxes; write the picture to `path` where one is given.

        Raises:
            InvalidInputError: the folder is missing, or no picture can be written under the name.
        """
        return _write(draw_mask(self.image, self.text, self.mask, self.boxes), path)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; masks are COCO's run lengths of columns, uncompressed."""
        return _head(self.picture, self.text) | {
            "mask": run_lengths(self.mask),
            "objects": [
                {"box": list(box), "score": score, "mask": run_lengths(mask)}
                for box, score, mask in zip(self.boxes, self.scores, self.masks, strict=True)
            ],
        }


@dataclass(frozen=True)
class DetectionResult(_Result, Sequence[Detection]):
    """The things of some named classes, as a sequence, best first.

    image: what was searched. names: of the classes. detections: each with name, box, score.
    """

    names: tuple[str, ...]
    detections: tuple[Detection, ...]

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Detection]: ...

    def __getitem__(self, index: int | slice) -> Detection | Sequence[Detection]:
        return self.detections[index]

    def __len__(self) -> int:
        return len(self.detections)

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the boxes with their names; write the picture to `path` where one is given.

        Raises:
            InvalidInputError: the folder is missing, or no picture can be written under the name.
        """
        text, spans = "", dict[str, tuple[int, int]]()  # the names that were found are the picture's caption
        for name in dict.fromkeys(found.name for found in self.detections):
            text += ", " if text else ""
            spans[name] = len(text), len(text) + len(name)
            text += name
        drawn = [Grounding(d.name, (spans[d.name],), d.box, d.score) for d in self.detections]
        return _write(draw_groundings(self.image, text or "nothing found", drawn), path)

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


def _plain(found: Grounding) -> dict[str, Any]:
    return {
        "phrase": found.phrase,
        "spans": [list(span) for span in found.spans],
        "box": list(found.box),
        "score": found.score,
    }


def _head(picture: Picture, text: str) -> dict[str, Any]:
    return {"text": text, "width": picture.width, "height": picture.height}


def _write(picture: Image.Image, path: str | Path | None) -> Image.Image:
    if path is not None:
        save_picture(picture, Path(path))
    return picture
