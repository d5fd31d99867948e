"""The stores that a recipe names in; one data set of examples, drawn by weight, out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from torch.utils.data import ConcatDataset

from mdetr.data.augment import (
    Augmentation,
    Compose,
    clevr_training_augmentation,
    fixed_size_training_augmentation,
    published_training_augmentation,
    scale_jitter_training_augmentation,
)
from mdetr.data.composition import ComposeTexts
from mdetr.data.examples import Example, ExampleDataset
from mdetr.data.store import Store
from mdetr.images import Size
from mdetr.training.recipe import DataSettings, FixedSizeAugmentation, ScaleJitterAugmentation


class Mixture(ConcatDataset[Example]):
    """The examples of several stores.

    weights: per example, how often it is drawn; None where all stores count alike.
    """

    def __init__(self, parts: Sequence[ExampleDataset], weights: Sequence[float]) -> None:
        super().__init__(parts)
        self.parts = list(parts)
        self.weights: list[float] | None = None
        if len(set(weights)) > 1:
            self.weights = [
                weight for part, weight in zip(parts, weights, strict=True) for _ in range(len(part))
            ]

    def shape(self, index: int) -> Size:
        """Height and width in pixels that an example's image has in this epoch, without reading it."""
        part = bisect_right(self.cumulative_sizes, index)
        return self.parts[part].shape(index - (self.cumulative_sizes[part - 1] if part else 0))

    def set_epoch(self, epoch: int) -> None:
        """Make the random choices those of this epoch."""
        for part in self.parts:
            part.set_epoch(epoch)


def training_data(settings: DataSettings, seed: int) -> Mixture:
    """The training examples of a recipe, augmented."""
    augmentation = make_augmentation(settings)
    parts = [
        ExampleDataset(
            Store.open(entry.store),
            augmentation,
            settings.texts_per_image,
            seed,
            by_image=settings.examples == "image",
        )
        for entry in settings.train
    ]
    return Mixture(parts, [entry.weight for entry in settings.train])


def make_augmentation(settings: DataSettings) -> Augmentation | None:
    """The augmentation that a recipe names, and then the composing of texts where it is asked for."""
    augmentation = _image_augmentation(settings)
    if not settings.compose_texts:
        return augmentation
    compose = ComposeTexts(settings.texts_per_image or 4)
    return compose if augmentation is None else Compose((augmentation, compose))


def _image_augmentation(settings: DataSettings) -> Augmentation | None:
    chosen = settings.augmentation
    if isinstance(chosen, FixedSizeAugmentation):
        return fixed_size_training_augmentation(
            chosen.height,
            chosen.width,
            chosen.smallest_crop,
            chosen.flip_probability,
            chosen.jitter,
            chosen.flip_languages,
        )
    if isinstance(chosen, ScaleJitterAugmentation):
        return scale_jitter_training_augmentation(
            tuple(chosen.sides),
            chosen.smallest_crop,
            chosen.zoom_out,
            chosen.flip_probability,
            chosen.jitter,
            chosen.flip_languages,
        )
    named = {"published": published_training_augmentation, "clevr": clevr_training_augmentation}
    return named[chosen]() if chosen in named else None
