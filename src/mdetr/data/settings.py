"""Settings of the data of a recipe."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from mdetr.data.side_words import Language

STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, le=1)]
Part = Literal["all", "train", "validation"]


@dataclass(frozen=True, config=STRICT)
class FixedSizeAugmentation:
    """Flip, crop, color jitter, and always the same output size, in pixels.

    flip_languages: Those of the texts, such as [en, de]: words for left and right change places in a mirrored
    image's texts. An image stays as it is if one of its texts names a side in another language.
    """

    height: PositiveInt
    width: PositiveInt
    smallest_crop: Fraction = 0.7
    flip_probability: Fraction = 0.5
    flip_languages: list[Language] = field(default_factory=list)
    jitter: Fraction = 0.2


@dataclass(frozen=True, config=STRICT)
class ScaleJitterAugmentation:
    """Flip, zoom out or crop, resize with the aspect kept, color jitter.

    sides: what the longest side may be, in pixels.
    smallest_crop: the least fraction of the image's sides that a crop keeps.
    zoom_out: the sides of the largest canvas that the image is put on, as a multiple of its own; 1 for none.
    flip_languages: as in `FixedSizeAugmentation`.
    """

    sides: Annotated[list[PositiveInt], Field(min_length=1)]
    smallest_crop: Fraction = 0.4
    zoom_out: Annotated[float, Field(ge=1)] = 1.8
    flip_probability: Fraction = 0.5
    flip_languages: list[Language] = field(default_factory=list)
    jitter: Fraction = 0.2


@dataclass(frozen=True, config=STRICT)
class TrainStore:
    """A store to train on; images are drawn from it in proportion to `weight` times their number.

    store: its folder, or a JSON Lines file of your own (docs/data.md), of which a store is made.
    part: "train" for all but one image in ten, which are chosen by their names, "validation" for that one.
    """

    store: Path
    weight: PositiveFloat = 1.0
    part: Part = "all"


@dataclass(frozen=True, config=STRICT)
class ValidationStore:
    """A store to evaluate on, the tasks that score it, and at most how many of its images.

    classes: for the task "detection", the annotation file (LVIS's, COCO's) whose classes are all looked for.
    part: as in `TrainStore`.
    """

    store: Path
    tasks: list[str]
    max_images: PositiveInt | None = None
    classes: Path | None = None
    part: Part = "all"


@dataclass(frozen=True, config=STRICT)
class DataSettings:
    """What is learned from and what is evaluated.

    examples: "image", where an epoch takes some texts of every image, or "text", where it takes every text by
    itself, as the published models were trained. texts_per_image: how many texts of an image share one
    encoding of it in a training step; null for all.
    augmentation: "model_size", random crops resized to the image size of the model (or of `image`);
        "published", the published crops and sizes, whatever the model's; "clevr"; "none"; or settings for
        images of one size or for jittered scales.
    compose_texts: whether texts are composed anew, in every epoch, from the class names of an image's boxes,
        where the store says what is absent (docs/photo-tiny.md).
    allow_shared_images: whether training and validation may have images in common, which is an error
        otherwise. Unless it is true, one image in ten is for validation alone where both name the same data.
    group_by_shape: whether the images of a batch are chosen to have like shapes, so that little is padded.
    """

    train: list[TrainStore]
    validation: dict[str, ValidationStore] = field(default_factory=dict)
    examples: Literal["image", "text"] = "image"
    texts_per_image: PositiveInt | None = 1
    augmentation: (
        FixedSizeAugmentation | ScaleJitterAugmentation | Literal["model_size", "published", "clevr", "none"]
    ) = "model_size"
    compose_texts: bool = False
    group_by_shape: bool = True
    allow_shared_images: bool = False
