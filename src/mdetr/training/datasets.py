"""Training set of a recipe: a weighted mixture of stores."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch.utils.data import ConcatDataset

from mdetr.data.augment import (
    Augmentation,
    Compose,
    FixedSizeAugmentation,
    ScaleJitterAugmentation,
    clevr_training_augmentation,
    fixed_size_training_augmentation,
    model_size_training_augmentation,
    published_training_augmentation,
    scale_jitter_training_augmentation,
)
from mdetr.data.composition import ComposeTexts
from mdetr.data.examples import Example, ExampleDataset
from mdetr.data.held_out import TrainStore, ValidationStore, check_disjoint, open_store
from mdetr.data.store import Store
from mdetr.processing.coordinates import Size
from mdetr.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class DataSettings:
    """Settings of the data to train and evaluate on.

    Attributes:
        train: Stores to train on.
        validation: Name -> store to evaluate on.
        examples: "image", an epoch takes some texts of every image; or "text", it takes every text by itself,
            as the published models were trained.
        texts_per_image: Texts of an image that share one encoding of it in a training step; null for all.
        augmentation: "model_size", random crops resized to the image size of the model (or of `image`);
            "published", the published crops and sizes, whatever the model's; "clevr"; "none"; or settings for
            images of one size or for jittered scales.
        compose_texts: Compose new texts in every epoch from the class names of an image's boxes, where the
            store lists absent classes (docs/photo-tiny.md).
        group_by_shape: Choose the images of a batch by shape, to reduce padding.
        allow_shared_images: Allow images that are in training and validation, which is an error otherwise.
            Unless it is true, one image in ten is for validation alone where both name the same data.
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


def check_shared_images(settings: DataSettings) -> None:
    """Check that training and validation share no image, unless the settings allow it.

    Args:
        settings: Stores to train and evaluate on.

    Raises:
        RecipeError: They share images; the message names one of them.
    """
    if not settings.allow_shared_images:
        check_disjoint(settings.train, settings.validation)


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
        part, place = self._find(index)
        return part.shape(place)

    def name_of(self, index: int) -> tuple[Path, dict[str, str]]:
        """An example's store, and the source, split, id and image_id of its first record."""
        part, place = self._find(index)
        return part.store.path, part.name_of(place)

    def _find(self, index: int) -> tuple[ExampleDataset, int]:
        number = bisect_right(self.cumulative_sizes, index)
        return self.parts[number], index - (self.cumulative_sizes[number - 1] if number else 0)

    def set_epoch(self, epoch: int) -> None:
        """Make the random choices those of this epoch."""
        for part in self.parts:
            part.set_epoch(epoch)


def training_data(
    settings: DataSettings,
    seed: int,
    size: Mapping[str, int] | None = None,
    stores: Sequence[Store] | None = None,
) -> Mixture:
    """Make the training examples of a recipe, augmented.

    Args:
        settings: The recipe's.
        seed: Of the random choices.
        size: Of the model's images, "shortest_edge" and "longest_edge" in pixels; None where the model keeps
            images as they are.
        stores: What to read for each of `settings.train`; the stores that these name, if left out.
    """
    augmentation = make_augmentation(settings, size)
    by_image = settings.examples == "image"
    parts = [
        ExampleDataset(store, augmentation, settings.texts_per_image, seed, by_image)
        for store in stores or map(open_store, settings.train)
    ]
    return Mixture(parts, [entry.weight for entry in settings.train])


def make_augmentation(settings: DataSettings, size: Mapping[str, int] | None = None) -> Augmentation | None:
    """The augmentation that a recipe names, and then the composing of texts where it is asked for.

    Args:
        settings: The recipe's.
        size: Of the model's images; see `training_data`.
    """
    augmentation = _image_augmentation(settings, size)
    if not settings.compose_texts:
        return augmentation
    compose = ComposeTexts(settings.texts_per_image or 4)
    return compose if augmentation is None else Compose((augmentation, compose))


def _image_augmentation(settings: DataSettings, size: Mapping[str, int] | None) -> Augmentation | None:
    chosen = settings.augmentation
    if chosen == "model_size":
        if size is None:
            return None
        return model_size_training_augmentation(size["shortest_edge"], size.get("longest_edge"))
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
