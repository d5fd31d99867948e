"""Bodies of requests and responses, for their validation and for OpenAPI."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mdetr.checkpoints.registry import Task

Fraction = Annotated[float, Field(ge=0, le=1)]
PixelBox = Annotated[list[float], Field(min_length=4, max_length=4, description="x0, y0, x1, y1 in pixels")]
CharacterSpan = Annotated[
    list[int], Field(min_length=2, max_length=2, description="first character, and end")
]


class _Body(BaseModel):
    """Base of all bodies: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class ImageRequest(_Body):
    """An image, and the minimum score of a box."""

    image: str | None = Field(None, description="The file of the image in base64, or as a data: URL")
    image_url: str | None = Field(None, description="An http(s) address of the image, instead of `image`")
    threshold: Fraction | None = Field(None, description="Minimum score; by default that of the model")


class TextRequest(ImageRequest):
    """An image and a text."""

    text: str = Field(description="Caption, referring expression, question or phrase")


class DetectRequest(ImageRequest):
    """An image and class names."""

    names: list[str] = Field(description="Class names")
    max_overlap: Fraction | None = Field(
        None, description="Maximum intersection over union of two boxes of a class; by default 0.7"
    )


class RunLengths(_Body):
    """A mask as uncompressed run lengths, as in COCO."""

    size: list[int]
    counts: list[int]


class GroundingEntry(_Body):
    """A box, and the words that it belongs to."""

    phrase: str
    spans: list[CharacterSpan]
    box: PixelBox
    score: float


class DetectionEntry(_Body):
    """A box, and its class."""

    name: str
    box: PixelBox
    score: float


class MaskEntry(_Body):
    """A box, and its mask."""

    box: PixelBox
    score: float
    mask: RunLengths


class _TextResponse(_Body):
    text: str
    width: int
    height: int


class GroundResponse(_TextResponse):
    """The objects that a caption mentions, best first."""

    groundings: list[GroundingEntry]


class ReferResponse(_TextResponse):
    """The object that an expression refers to; null if its score is below the threshold."""

    box: PixelBox | None
    score: float | None


class AnswerResponse(_TextResponse):
    """The answer to a question, and the objects that it mentions."""

    answer: str
    answer_type: str | None
    score: float
    groundings: list[GroundingEntry]


class SegmentResponse(_TextResponse):
    """The pixels that a phrase refers to."""

    mask: RunLengths
    objects: list[MaskEntry]


class DetectResponse(_Body):
    """The objects of named classes, best first."""

    width: int
    height: int
    names: list[str]
    detections: list[DetectionEntry]


class ErrorResponse(_Body):
    """One sentence that says what is wrong, and what to do."""

    detail: str


REQUESTS: dict[Task, type[ImageRequest]] = {
    Task.GROUNDING: TextRequest,
    Task.REFERRING: TextRequest,
    Task.ANSWERING: TextRequest,
    Task.DETECTION: DetectRequest,
    Task.SEGMENTATION: TextRequest,
}

RESPONSES: dict[Task, type[_Body]] = {
    Task.GROUNDING: GroundResponse,
    Task.REFERRING: ReferResponse,
    Task.ANSWERING: AnswerResponse,
    Task.DETECTION: DetectResponse,
    Task.SEGMENTATION: SegmentResponse,
}
