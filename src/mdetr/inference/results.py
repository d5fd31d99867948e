"""Results: what was found in one image for one text, ready to be read, drawn or written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from PIL import Image

from mdetr.data.record import Box
from mdetr.errors import InvalidInputError
from mdetr.processor import Grounding
from mdetr.ui.plot import draw_boxes, draw_groundings


@dataclass(frozen=True)
class GroundingResult(Sequence[Grounding]):
    """The things that a text speaks of, as a sequence, best first.

    image: what was searched. text: what was searched for. groundings: each with phrase, spans, box, score.
    """

    image: Image.Image = field(repr=False)
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
            InvalidInputError: the folder is missing or the name has no image suffix.
        """
        return _write(draw_groundings(self.image, self.text, self.groundings), path)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; boxes are x0, y0, x1, y1 in pixels."""
        return _head(self.image, self.text) | {
            "groundings": [
                {
                    "phrase": found.phrase,
                    "spans": [list(span) for span in found.spans],
                    "box": list(found.box),
                    "score": found.score,
                }
                for found in self.groundings
            ]
        }


@dataclass(frozen=True)
class ReferringResult:
    """The one thing that an expression denotes.

    image: what was searched. text: the expression. box: x0, y0, x1, y1 in pixels. score: 1 - p(no object),
    times p(referred) where the model tells.
    """

    image: Image.Image = field(repr=False)
    text: str
    box: Box
    score: float

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the box; write the picture to `path` where one is given.

        Raises:
            InvalidInputError: the folder is missing or the name has no image suffix.
        """
        return _write(draw_boxes(self.image, self.text, [self.box]), path)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; the box is x0, y0, x1, y1 in pixels."""
        return _head(self.image, self.text) | {"box": list(self.box), "score": self.score}


def _head(image: Image.Image, text: str) -> dict[str, Any]:
    return {"text": text, "width": image.width, "height": image.height}


def _write(picture: Image.Image, path: str | Path | None) -> Image.Image:
    """Write beside the target first, so that no half picture is left behind."""
    if path is None:
        return picture
    target = Path(path)
    if target.suffix.lower() not in Image.registered_extensions():
        raise InvalidInputError(f"{target} has no image suffix; name a .png or .jpg file.")
    if not target.parent.is_dir():
        raise InvalidInputError(
            f"There is no folder {target.parent} to write {target.name} to; make it first."
        )
    handle, temporary = tempfile.mkstemp(suffix=target.suffix, prefix=".", dir=target.parent)
    os.close(handle)
    try:
        picture.save(temporary)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return picture
