"""Augmentation of an image together with the records about it.

Every step is a small frozen dataclass, called with (image (3, H, W) uint8, records, torch.Generator). All
records are about the one image, and undergo the same change. All randomness comes from the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, TypeVar

import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as tv

from mdetr.data.examples import Augmentation, Records
from mdetr.data.masks import move_masks
from mdetr.data.record import Phrase, Record
from mdetr.data.side_words import LANGUAGES, Language, Swap, mirror_words
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box, Size, Spans
from mdetr.processing.images import resized_size
from mdetr.settings import STRICT, Fraction

_TRIES = 100
_T = TypeVar("_T")

Region = tuple[int, int, int, int]
"""top, left, height, width in pixels."""


@dataclass(frozen=True)
class Compose:
    """One step after the other."""

    steps: tuple[Augmentation, ...]

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Take the image and its records through every step."""
        for step in self.steps:
            image, records = step(image, records, generator)
        return image, records


@dataclass(frozen=True)
class RandomSelect:
    """The first step with this probability, else the second."""

    first: Augmentation
    second: Augmentation
    probability: float = 0.5

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a step and take it."""
        chosen = self.first if _uniform(0, 1, generator) < self.probability else self.second
        return chosen(image, records, generator)


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors the image, and keeps what the texts and answers say true.

    In texts of the languages that are named, words for left and right (also leftmost, righthand, ...) change
    places, and all spans move to where their words now are. An image stays as it is if one of its texts has
    such a word of another language, or one whose opposite is not known.

    The published program swaps English words but leaves the spans at their old characters; here they move.

    Attributes:
        probability: From 0 to 1.
        languages: The languages of the texts, such as ("en", "de"); see `mdetr.data.side_words`.
    """

    probability: float = 0.5
    languages: Sequence[Language] = ()

    def __post_init__(self) -> None:
        unknown = [language for language in self.languages if language not in LANGUAGES]
        if unknown:
            raise InvalidInputError(
                f"Sides can be swapped in texts of {', '.join(LANGUAGES)}; found the language {unknown[0]!r}."
            )

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Mirror the image and its records, or leave them."""
        if _uniform(0, 1, generator) >= self.probability:
            return image, records
        mirrored = [swap_sides(record, self.languages) for record in records]
        known = tuple(_mirror(record) for record in mirrored if record is not None)
        return (tv.horizontal_flip(image), known) if len(known) == len(records) else (image, records)


@dataclass(frozen=True)
class RandomResize:
    """Resizes the shortest side to one of the scales, or less where the longest would exceed `longest`."""

    scales: tuple[int, ...]
    longest: int | None = None

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a scale and resize to it."""
        scale = self.scales[_integer(0, len(self.scales) - 1, generator)]
        return resize(image, records, resized_size((image.shape[-2], image.shape[-1]), scale, self.longest))


@dataclass(frozen=True)
class FixedResize:
    """Resizes to one height and width."""

    height: int
    width: int

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Resize to the one size."""
        return resize(image, records, (self.height, self.width))


@dataclass(frozen=True)
class RandomSizeCrop:
    """Cuts out a random place whose sides are each between `smallest` and `largest` pixels, within the image.

    keep_all_boxes: up to 100 places are tried until one keeps a part of every box; the last is taken as it is
    (the published "cautious" crop). Otherwise the first is taken. Boxes that lie outside it are dropped with
    all that belongs to them; others are cut at its edge.
    """

    smallest: int
    largest: int
    keep_all_boxes: bool = True

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a place and cut it out."""
        boxes = _all_boxes(records)
        region = self._propose(image, generator)
        for _ in range(_TRIES - 1 if self.keep_all_boxes else 0):
            if bool((_visible_share(boxes, region) > 0).all()):
                break
            region = self._propose(image, generator)
        return crop(image, records, region)

    def _propose(self, image: Tensor, generator: Generator) -> Region:
        height, width = image.shape[-2:]
        h, w = (
            _integer(min(self.smallest, side), min(self.largest, side), generator) for side in (height, width)
        )
        return _integer(0, height - h, generator), _integer(0, width - w, generator), h, w


@dataclass(frozen=True)
class RandomScaleCrop:
    """Cuts out a random place of the image's own aspect ratio, its sides a random share of the image's.

    Up to 100 places are tried until one keeps at least `visible` of every box's area; if none does, the whole
    image stays.
    """

    smallest: float = 0.7
    largest: float = 1.0
    visible: float = 0.7

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a place and cut it out, or leave the image whole."""
        boxes = _all_boxes(records)
        for _ in range(_TRIES):
            region = _scaled_region(image, self.smallest, self.largest, generator)
            if bool((_visible_share(boxes, region) >= self.visible).all()):
                return crop(image, records, region)
        return image, records


@dataclass(frozen=True)
class RandomPartialCrop:
    """Cuts out a random place of the image's own aspect ratio that shows every box well or not at all.

    Up to 20 places are tried until each box keeps at least `visible` or at most `hidden` of its area, and at
    least one box stays; boxes that are hidden are dropped with all that belongs to them. If there is no such
    place, the whole image stays.
    """

    smallest: float = 0.4
    largest: float = 1.0
    visible: float = 0.7
    hidden: float = 0.1

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a place and cut it out, or leave the image whole."""
        boxes = _all_boxes(records)
        for _ in range(_TRIES // 5):
            region = _scaled_region(image, self.smallest, self.largest, generator)
            fraction = _visible_share(boxes, region)
            stays = fraction >= self.visible
            if bool((stays | (fraction <= self.hidden)).all()) and (bool(stays.any()) or not len(boxes)):
                return crop(image, _keep(records, stays.tolist()), region)
        return image, records


@dataclass(frozen=True)
class RandomZoomOut:
    """With this probability puts the image at a random place of a larger canvas of the image's mean color.

    largest: the canvas's sides, as multiples of the image's, are drawn between 1 and this.
    """

    probability: float = 0.3
    largest: float = 1.8

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a canvas and a place on it, or leave the image alone."""
        if _uniform(0, 1, generator) >= self.probability:
            return image, records
        height, width = image.shape[-2:]
        scale = _uniform(1, self.largest, generator)
        h, w = max(height, round(scale * height)), max(width, round(scale * width))
        top, left = _integer(0, h - height, generator), _integer(0, w - width, generator)
        if image.device.type == "meta":
            canvas = image.new_empty((3, h, w))
        else:
            mean = image.float().mean(dim=(1, 2)).to(image.dtype)
            canvas = mean[:, None, None].repeat(1, h, w)
            canvas[:, top : top + height, left : left + width] = image

        def move(record: Record) -> Record:
            boxes = tuple((x0 + left, y0 + top, x1 + left, y1 + top) for x0, y0, x1, y1 in record.boxes)
            masks = move_masks(
                record, lambda all_masks: tv.pad(all_masks, [left, top, w - width - left, h - height - top])
            )
            return replace(record, boxes=boxes, masks=masks, height=h, width=w)

        return canvas, tuple(move(record) for record in records)


@dataclass(frozen=True)
class RandomLongestSide:
    """Resizes the longest side to one of these lengths in pixels; the aspect ratio stays.

    Sides are rounded as those of the model's own images are (`resized_size`): the shorter one to a whole
    number, and the longer one after it, so that it may be a few pixels off in very thin images.
    """

    sides: tuple[int, ...]

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a length and resize to it."""
        side = self.sides[_integer(0, len(self.sides) - 1, generator)]
        return resize(image, records, resized_size((image.shape[-2], image.shape[-1]), side, side))


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast and saturation by factors from 1 - x to 1 + x; hues stay."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Change the pixels; the records stay."""
        image = tv.adjust_brightness(image, _uniform(1 - self.brightness, 1 + self.brightness, generator))
        image = tv.adjust_contrast(image, _uniform(1 - self.contrast, 1 + self.contrast, generator))
        return tv.adjust_saturation(
            image, _uniform(1 - self.saturation, 1 + self.saturation, generator)
        ), records


@dataclass(frozen=True)
class ResizeOrCrop:
    """Half of the time resizes to one of `scales`; else to one of `scales_before`, crops, then to `scales`.

    Source: arXiv 2104.12763, appendix A (DETR's augmentation, without flips).
    """

    scales: tuple[int, ...]
    longest: int
    scales_before: tuple[int, ...]
    smallest_crop: int
    largest_crop: int
    steps: Augmentation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        to_scale = RandomResize(self.scales, self.longest)
        cropped = Compose(
            (
                RandomResize(self.scales_before),
                RandomSizeCrop(self.smallest_crop, self.largest_crop),
                to_scale,
            )
        )
        object.__setattr__(self, "steps", RandomSelect(to_scale, cropped))

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Take the image and its records through the steps."""
        return self.steps(image, records, generator)


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
    """What the published models were trained with, on all data sets but CLEVR."""
    return ResizeOrCrop(tuple(range(480, 801, 32)), 1333, (400, 500, 600), 384, 1333)


def model_size_training_augmentation(shortest: int, longest: int | None = None) -> Augmentation:
    """For fine-tuning: crops that keep every box, resized to the size of the model's own images.

    A model that was trained at one size alone loses accuracy when it is fine-tuned at several.

    Args:
        shortest: Shortest side of the model's images, in pixels.
        longest: Limit of their longest side, in pixels; None for none.
    """
    return Compose((RandomScaleCrop(), RandomResize((shortest,), longest)))


def clevr_training_augmentation() -> Augmentation:
    """What the published CLEVR models were trained with."""
    return ResizeOrCrop(tuple(range(256, 385, 32)), 512, (320, 352, 384), 256, 512)


def fixed_size_training_augmentation(
    height: int,
    width: int,
    smallest_crop: float = 0.7,
    flip_probability: float = 0.5,
    jitter: float = 0.2,
    flip_languages: Sequence[Language] = (),
) -> Augmentation:
    """For small models: flip, crop, color jitter, and always the same output size.

    Args:
        height, width: of the output, in pixels.
        smallest_crop: the least share of the image's sides that a crop keeps.
        flip_probability: of mirroring the image, with left and right swapped in the texts.
        jitter: the largest change of brightness, contrast and saturation.
        flip_languages: Those of the texts; images whose texts name sides in another are not mirrored.
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
    """For small models and few photos: flip, zoom out or crop, resize with the aspect kept, color jitter.

    Args:
        sides: what the longest side may be, in pixels.
        smallest_crop: the least fraction of the image's sides that a crop keeps.
        zoom_out: the largest canvas, as a multiple of the image's sides; 1 for none.
        flip_probability: of mirroring the image, with left and right swapped in the texts.
        jitter: the largest change of brightness, contrast and saturation.
        flip_languages: Those of the texts; images whose texts name sides in another are not mirrored.
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


def resize(image: Tensor, records: Records, size: Size) -> tuple[Tensor, Records]:
    """Resize an image (bilinear, antialiased) and its records to (height, width)."""
    old_height, old_width = image.shape[-2:]
    if (old_height, old_width) == size:
        return image, records
    height, width = size
    x, y = width / old_width, height / old_height
    resized = tv.resize(image, [height, width], tv.InterpolationMode.BILINEAR, antialias=True)

    def move(record: Record) -> Record:
        boxes = tuple(
            (x0 * x, y0 * y, min(x1 * x, float(width)), min(y1 * y, float(height)))
            for x0, y0, x1, y1 in record.boxes
        )
        masks = move_masks(
            record, lambda all_masks: tv.resize(all_masks, [height, width], tv.InterpolationMode.NEAREST)
        )
        return replace(record, boxes=boxes, masks=masks, height=height, width=width)

    return resized, tuple(move(record) for record in records)


def crop(image: Tensor, records: Records, region: Region) -> tuple[Tensor, Records]:
    """Cut a region out of an image and its records; boxes outside it go, with all that belongs to them."""
    top, left, height, width = region

    def move(record: Record) -> Record:
        moved = [
            (
                max(x0 - left, 0.0),
                max(y0 - top, 0.0),
                min(x1 - left, float(width)),
                min(y1 - top, float(height)),
            )
            for x0, y0, x1, y1 in record.boxes
        ]
        kept = [index for index, (x0, y0, x1, y1) in enumerate(moved) if x0 < x1 and y0 < y1]
        masks = move_masks(record, lambda all_masks: tv.crop(all_masks, top, left, height, width))
        record = replace(record, boxes=tuple(moved), masks=masks, height=height, width=width)
        return record if len(kept) == len(moved) else keep_boxes(record, kept)

    return tv.crop(image, top, left, height, width), tuple(move(record) for record in records)


def keep_boxes(record: Record, kept: list[int]) -> Record:
    """The record with some of its boxes and what belongs to them; phrases left without a box go too."""
    place = {old: new for new, old in enumerate(kept)}

    phrases = record.phrases
    if phrases is not None:
        left = ((phrase, tuple(place[i] for i in phrase.box_indices if i in place)) for phrase in phrases)
        phrases = tuple(
            Phrase(phrase.spans, indices) for phrase, indices in left if indices or not phrase.box_indices
        )
    return replace(
        record,
        boxes=tuple(record.boxes[index] for index in kept),
        spans=tuple(record.spans[index] for index in kept),
        is_referred=_choose(record.is_referred, kept),
        masks=_choose(record.masks, kept),
        category_ids=_choose(record.category_ids, kept),
        phrases=phrases,
    )


def _keep(records: Records, stays: list[bool]) -> Records:
    """The records without the boxes that do not stay; `stays` is of the boxes of all records in turn."""
    kept, start = [], 0
    for record in records:
        own = stays[start : start + len(record.boxes)]
        start += len(own)
        indices = [index for index, stay in enumerate(own) if stay]
        kept.append(record if all(own) else keep_boxes(record, indices))
    return tuple(kept)


def _choose(values: tuple[_T, ...] | None, kept: list[int]) -> tuple[_T, ...] | None:
    return None if values is None else tuple(values[index] for index in kept)


def swap_sides(record: Record, languages: Sequence[Language]) -> Record | None:
    """Exchange left and right in a record's text and answer, and move its spans to where their words now are.

    Args:
        record: Any.
        languages: Those whose words may be swapped.

    Returns:
        The changed record; None if a word for a side cannot be swapped.
    """
    swaps = mirror_words(record.text, languages)
    answer_swaps = mirror_words(record.answer or "", languages)
    if swaps is None or answer_swaps is None:
        return None
    if not swaps and not answer_swaps:
        return record

    def move(spans: Spans) -> Spans:
        return tuple((_moved(start, swaps), _moved(end, swaps, is_end=True)) for start, end in spans)

    phrases = record.phrases
    return replace(
        record,
        text=_swapped(record.text, swaps),
        answer=None if record.answer is None else _swapped(record.answer, answer_swaps),
        spans=tuple(move(spans) for spans in record.spans),
        phrases=None
        if phrases is None
        else tuple(Phrase(move(phrase.spans), phrase.box_indices) for phrase in phrases),
    )


def _swapped(text: str, swaps: Sequence[Swap]) -> str:
    for swap in reversed(swaps):
        text = text[: swap.start] + swap.text + text[swap.end :]
    return text


def _moved(character: int, swaps: Sequence[Swap], is_end: bool = False) -> int:
    """Where a span's start or end goes; inside a swapped word, to that word's own start or end."""
    shift = 0
    for swap in swaps:
        growth = len(swap.text) - (swap.end - swap.start)
        if character >= swap.end:
            shift += growth
        elif character > swap.start:
            return swap.end + shift + growth if is_end else swap.start + shift
    return character + shift


def _mirror(record: Record) -> Record:
    width = record.width
    boxes = tuple((width - x1, y0, width - x0, y1) for x0, y0, x1, y1 in record.boxes)
    return replace(record, boxes=boxes, masks=move_masks(record, tv.horizontal_flip))


def _scaled_region(image: Tensor, smallest: float, largest: float, generator: Generator) -> Region:
    """A random place of the image's own aspect ratio, its sides a random fraction of the image's."""
    height, width = image.shape[-2:]
    scale = _uniform(smallest, largest, generator)
    h, w = max(1, round(scale * height)), max(1, round(scale * width))
    return _integer(0, height - h, generator), _integer(0, width - w, generator), h, w


def _all_boxes(records: Records) -> Tensor:
    """All boxes of all records: (N, 4) float64."""
    boxes: list[Box] = [box for record in records for box in record.boxes]
    return torch.tensor(boxes, dtype=torch.float64).view(-1, 4)


def _visible_share(boxes: Tensor, region: Region) -> Tensor:
    """The share of each box's area that lies in the region: (N,)."""
    top, left, height, width = region
    low = torch.tensor([left, top], dtype=torch.float64)
    high = torch.tensor([left + width, top + height], dtype=torch.float64)
    inside = (boxes[:, 2:].minimum(high) - boxes[:, :2].maximum(low)).clamp(min=0).prod(1)
    return inside / (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _integer(low: int, high: int, generator: Generator) -> int:
    """A random integer from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
