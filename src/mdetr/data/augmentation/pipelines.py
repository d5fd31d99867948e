"""Augmentations for training, those of the released models and those for small models, with settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mdetr.data.augmentation.transforms import (
    ColorJitter,
    Compose,
    FixedResize,
    HorizontalFlip,
    RandomLongestSide,
    RandomPartialCrop,
    RandomResize,
    RandomScaleCrop,
    RandomSelect,
    RandomZoomOut,
    ResizeOrCrop,
)
from mdetr.data.examples import Augmentation
from mdetr.data.side_words import Language
from mdetr.settings import STRICT, Fraction


@pydantic_dataclass(frozen=True, config=STRICT)
class FixedSizeAugmentation:
    """Settings of `fixed_size_training_augmentation`.

    Attributes:
        height: Height of the output, in pixels.
        width: Width of the output, in pixels.
        smallest_crop: Smallest fraction of the image's sides that a crop keeps.
        flip_probability: Probability of mirroring an image.
        flip_languages: Languages of the texts, such as [en, de]: words for left and right are swapped in the
            texts of a mirrored image. An image is not mirrored if one of its texts names a side in another
            language.
        jitter: Largest change of brightness, contrast and saturation.
    """

    height: PositiveInt
    width: PositiveInt
    smallest_crop: Fraction = 0.7
    flip_probability: Fraction = 0.5
    flip_languages: list[Language] = field(default_factory=list)
    jitter: Fraction = 0.2


@pydantic_dataclass(frozen=True, config=STRICT)
class ScaleJitterAugmentation:
    """Settings of `scale_jitter_training_augmentation`.

    Attributes:
        sides: Lengths of the longest side to choose from, in pixels.
        smallest_crop: Smallest fraction of the image's sides that a crop keeps.
        zoom_out: Largest canvas that the image is put on, as a multiple of its sides; 1 for none.
        flip_probability: Probability of mirroring an image.
        flip_languages: As in `FixedSizeAugmentation`.
        jitter: Largest change of brightness, contrast and saturation.
    """

    sides: Annotated[list[PositiveInt], Field(min_length=1)]
    smallest_crop: Fraction = 0.4
    zoom_out: Annotated[float, Field(ge=1)] = 1.8
    flip_probability: Fraction = 0.5
    flip_languages: list[Language] = field(default_factory=list)
    jitter: Fraction = 0.2


def published_training_augmentation() -> Augmentation:
    """Make the augmentation of the released models for all data sets but CLEVR."""
    return ResizeOrCrop(tuple(range(480, 801, 32)), 1333, (400, 500, 600), 384, 1333)


def model_size_training_augmentation(shortest: int, longest: int | None = None) -> Augmentation:
    """Make an augmentation for fine-tuning: crops that keep every box, resized to the model's image size.

    A model that was trained at a single size loses accuracy when it is fine-tuned at several.

    Args:
        shortest: Shortest side of the model's images, in pixels.
        longest: Limit of their longest side, in pixels; None for none.

    Returns:
        The augmentation.
    """
    return Compose((RandomScaleCrop(), RandomResize((shortest,), longest)))


def clevr_training_augmentation() -> Augmentation:
    """Make the augmentation of the released models for CLEVR."""
    return ResizeOrCrop(tuple(range(256, 385, 32)), 512, (320, 352, 384), 256, 512)


def fixed_size_training_augmentation(
    height: int,
    width: int,
    smallest_crop: float = 0.7,
    flip_probability: float = 0.5,
    jitter: float = 0.2,
    flip_languages: Sequence[Language] = (),
) -> Augmentation:
    """Make an augmentation for small models: flip, crop, resize to a fixed size, color jitter.

    Args:
        height: Height of the output, in pixels.
        width: Width of the output, in pixels.
        smallest_crop: Smallest side of a crop, as a fraction of the image's.
        flip_probability: Probability of mirroring the image, with left and right swapped in the texts.
        jitter: Largest change of brightness, contrast and saturation.
        flip_languages: Languages of the texts; an image is not mirrored if a text names sides in another.

    Returns:
        The augmentation.
    """
    return Compose(
        (
            HorizontalFlip(flip_probability, flip_languages),
            RandomScaleCrop(smallest_crop),
            FixedResize(height, width),
            ColorJitter(jitter, jitter, jitter),
        )
    )


def scale_jitter_training_augmentation(
    sides: tuple[int, ...],
    smallest_crop: float = 0.4,
    zoom_out: float = 1.8,
    flip_probability: float = 0.5,
    jitter: float = 0.2,
    flip_languages: Sequence[Language] = (),
) -> Augmentation:
    """Make an augmentation for small models and few photos: flip, zoom out or crop, resize, color jitter.

    Args:
        sides: Lengths of the longest side to choose from, in pixels.
        smallest_crop: Smallest side of a crop, as a fraction of the image's.
        zoom_out: Largest canvas, as a multiple of the image's sides; 1 for none.
        flip_probability: Probability of mirroring the image, with left and right swapped in the texts.
        jitter: Largest change of brightness, contrast and saturation.
        flip_languages: Languages of the texts; an image is not mirrored if a text names sides in another.

    Returns:
        The augmentation.
    """
    return Compose(
        (
            HorizontalFlip(flip_probability, flip_languages),
            RandomZoomOut(0.3, zoom_out),
            RandomSelect(RandomPartialCrop(smallest_crop), Compose(()), 0.7),
            RandomLongestSide(sides),
            ColorJitter(jitter, jitter, jitter),
        )
    )
