"""Random changes of an image together with its records.

Every step is a frozen dataclass that is called with (image (3, H, W) uint8, records, torch.Generator). All
records describe the one image and undergo the same change. All randomness comes from the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as tv

from mdetr.data.augmentation.geometry import Region, crop, filter_boxes, mirror, pad, resize, swap_sides
from mdetr.data.examples import Augmentation, Records
from mdetr.data.record import Record
from mdetr.data.side_words import LANGUAGES, Language
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box
from mdetr.processing.layouts import resized_size

_TRIES = 100  # number of regions that a crop tries


@dataclass(frozen=True)
class Compose:
    """Applies several steps in order."""

    steps: tuple[Augmentation, ...]

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Apply every step."""
        for step in self.steps:
            image, records = step(image, records, generator)
        return image, records


@dataclass(frozen=True)
class RandomSelect:
    """Applies the first step with a probability, and otherwise the second."""

    first: Augmentation
    second: Augmentation
    probability: float = 0.5

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a step and apply it."""
        chosen = self.first if _uniform(0, 1, generator) < self.probability else self.second
        return chosen(image, records, generator)


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors the image, and swaps left and right in its texts and answers.

    In texts of the given languages, words for left and right (also leftmost, righthand, ...) are swapped, and
    spans move with their words. An image is not mirrored if one of its texts has a side word of another
    language, or one without a known opposite.

    The released program swaps English words but does not move the spans.

    Attributes:
        probability: Probability of mirroring, from 0 to 1.
        languages: Languages of the texts, such as ("en", "de"); see `mdetr.data.side_words`.
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
        """Mirror the image and its records, or return them unchanged."""
        if _uniform(0, 1, generator) >= self.probability:
            return image, records

        # Swap the words of all texts, or leave the image as it is
        swapped: list[Record] = []
        for record in records:
            changed = swap_sides(record, self.languages)
            if changed is None:
                return image, records
            swapped.append(changed)
        return mirror(image, tuple(swapped))


@dataclass(frozen=True)
class RandomResize:
    """Resizes the shortest side to a random scale, or less if the longest side would exceed `longest`."""

    scales: tuple[int, ...]
    longest: int | None = None

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a scale, and resize to it."""
        scale = self.scales[_integer(0, len(self.scales) - 1, generator)]
        return resize(image, records, resized_size((image.shape[-2], image.shape[-1]), scale, self.longest))


@dataclass(frozen=True)
class FixedResize:
    """Resizes to a fixed height and width."""

    height: int
    width: int

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Resize to the fixed size."""
        return resize(image, records, (self.height, self.width))


@dataclass(frozen=True)
class RandomSizeCrop:
    """Crops to a random region with sides between `smallest` and `largest` pixels.

    Boxes outside the region are dropped with their spans and masks; others are clipped.

    Attributes:
        smallest: Smallest side in pixels.
        largest: Largest side in pixels, at most that of the image.
        keep_all_boxes: Whether to try up to 100 regions until one keeps a part of every box, and to use the
            last one otherwise (the "cautious" crop of the released program).
    """

    smallest: int
    largest: int
    keep_all_boxes: bool = True

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a region, and crop to it."""
        boxes = _all_boxes(records)
        region = self._propose(image, generator)
        for _ in range(_TRIES - 1 if self.keep_all_boxes else 0):
            if bool((_visible_fraction(boxes, region) > 0).all()):
                break
            region = self._propose(image, generator)
        return crop(image, records, region)

    def _propose(self, image: Tensor, generator: Generator) -> Region:
        height, width = image.shape[-2:]
        h = _integer(min(self.smallest, height), min(self.largest, height), generator)
        w = _integer(min(self.smallest, width), min(self.largest, width), generator)
        return _integer(0, height - h, generator), _integer(0, width - w, generator), h, w


@dataclass(frozen=True)
class RandomScaleCrop:
    """Crops to a random region with the aspect ratio of the image.

    Up to 100 regions are tried until one keeps at least `visible` of the area of every box; if none does, the
    image is not cropped.

    Attributes:
        smallest: Smallest side, as a fraction of the image's.
        largest: Largest side, as a fraction of the image's.
        visible: Smallest fraction of a box's area in the region.
    """

    smallest: float = 0.7
    largest: float = 1.0
    visible: float = 0.7

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a region and crop to it, or return the whole image."""
        boxes = _all_boxes(records)
        for _ in range(_TRIES):
            region = _scaled_region(image, self.smallest, self.largest, generator)
            if bool((_visible_fraction(boxes, region) >= self.visible).all()):
                return crop(image, records, region)
        return image, records


@dataclass(frozen=True)
class RandomPartialCrop:
    """Crops to a random region with the aspect ratio of the image that shows every box well or not at all.

    Up to 20 regions are tried until each box keeps at least `visible` or at most `hidden` of its area, and at
    least one box is kept; hidden boxes are dropped with their spans and masks. If there is no such region,
    the image is not cropped.

    Attributes:
        smallest: Smallest side, as a fraction of the image's.
        largest: Largest side, as a fraction of the image's.
        visible: Smallest fraction of the area of a kept box in the region.
        hidden: Largest fraction of the area of a dropped box in the region.
    """

    smallest: float = 0.4
    largest: float = 1.0
    visible: float = 0.7
    hidden: float = 0.1

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a region and crop to it, or return the whole image."""
        boxes = _all_boxes(records)
        for _ in range(_TRIES // 5):
            region = _scaled_region(image, self.smallest, self.largest, generator)
            fraction = _visible_fraction(boxes, region)
            is_visible = fraction >= self.visible
            is_clear = bool((is_visible | (fraction <= self.hidden)).all())
            if is_clear and (bool(is_visible.any()) or not len(boxes)):
                return crop(image, filter_boxes(records, is_visible.tolist()), region)
        return image, records


@dataclass(frozen=True)
class RandomZoomOut:
    """Puts the image at a random position on a larger canvas of its mean color.

    Attributes:
        probability: Probability of zooming out.
        largest: Largest side of the canvas, as a multiple of the image's.
    """

    probability: float = 0.3
    largest: float = 1.8

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a canvas and a position on it, or return the image unchanged."""
        if _uniform(0, 1, generator) >= self.probability:
            return image, records
        height, width = image.shape[-2:]
        scale = _uniform(1, self.largest, generator)
        h, w = max(height, round(scale * height)), max(width, round(scale * width))
        top, left = _integer(0, h - height, generator), _integer(0, w - width, generator)
        return pad(image, records, (top, left, h, w))


@dataclass(frozen=True)
class RandomLongestSide:
    """Resizes the longest side to a random length, and keeps the aspect ratio.

    Sides are rounded as by the image processor (`resized_size`): first the shorter one, then the longer one
    in proportion, which may be a few pixels off in very thin images.

    Attributes:
        sides: Lengths to choose from, in pixels.
    """

    sides: tuple[int, ...]

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Choose a length, and resize to it."""
        side = self.sides[_integer(0, len(self.sides) - 1, generator)]
        return resize(image, records, resized_size((image.shape[-2], image.shape[-1]), side, side))


@dataclass(frozen=True)
class ColorJitter:
    """Scales brightness, contrast and saturation by random factors from 1 - x to 1 + x."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, image: Tensor, records: Records, generator: Generator) -> tuple[Tensor, Records]:
        """Change the pixels, but not the records."""
        image = tv.adjust_brightness(image, _uniform(1 - self.brightness, 1 + self.brightness, generator))
        image = tv.adjust_contrast(image, _uniform(1 - self.contrast, 1 + self.contrast, generator))
        return tv.adjust_saturation(
            image, _uniform(1 - self.saturation, 1 + self.saturation, generator)
        ), records


@dataclass(frozen=True)
class ResizeOrCrop:
    """Resizes to one of `scales`, in half of the cases after a resize to `scales_before` and a crop.

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
        """Apply the steps."""
        return self.steps(image, records, generator)


def _scaled_region(image: Tensor, smallest: float, largest: float, generator: Generator) -> Region:
    """Choose a random region with the aspect ratio of the image."""
    height, width = image.shape[-2:]
    scale = _uniform(smallest, largest, generator)
    h, w = max(1, round(scale * height)), max(1, round(scale * width))
    return _integer(0, height - h, generator), _integer(0, width - w, generator), h, w


def _all_boxes(records: Records) -> Tensor:
    """Collect the boxes of all records: (N, 4) float64."""
    boxes: list[Box] = []
    for record in records:
        boxes.extend(record.boxes)
    return torch.tensor(boxes, dtype=torch.float64).view(-1, 4)


def _visible_fraction(boxes: Tensor, region: Region) -> Tensor:
    """Compute the fraction of the area of each box in the region: (N,)."""
    top, left, height, width = region
    low = torch.tensor([left, top], dtype=torch.float64)
    high = torch.tensor([left + width, top + height], dtype=torch.float64)
    inside = (boxes[:, 2:].minimum(high) - boxes[:, :2].maximum(low)).clamp(min=0).prod(1)
    return inside / (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _integer(low: int, high: int, generator: Generator) -> int:
    """Draw an integer from low to high, both inclusive."""
    return int(torch.randint(low, high + 1, (), generator=generator))
