"""Training set of a run: its stores, a weighted mixture of them, and the order of the examples.

A batch is padded to its tallest and its widest image, and computing on padding is wasted.
`ShapeGroupedSampler` puts images of similar shape into a batch.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from torch.utils.data import ConcatDataset, Sampler, WeightedRandomSampler

from mdetr.data.augmentation.pipelines import (
    FixedSizeAugmentation,
    ScaleJitterAugmentation,
    clevr_training_augmentation,
    fixed_size_training_augmentation,
    model_size_training_augmentation,
    published_training_augmentation,
    scale_jitter_training_augmentation,
)
from mdetr.data.augmentation.transforms import Compose
from mdetr.data.composition.mosaic import Mosaic
from mdetr.data.composition.texts import ComposeTexts
from mdetr.data.examples import Augmentation, Example, ExampleDataset
from mdetr.data.held_out import Part, TrainStore, ValidationStore, check_disjoint, open_store
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.store import Store, write_store
from mdetr.processing.coordinates import Size
from mdetr.settings import STRICT, Fraction
from mdetr.training.recipe_file import is_json_lines

WINDOW = 64  # batches that are regrouped together

Integers = npt.NDArray[np.int64]


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
        mosaic: Probability that an image is put together with three others, each a quarter of it; needs
            compose_texts.
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
    mosaic: Fraction = 0.0
    group_by_shape: bool = True
    allow_shared_images: bool = False


def import_own_data(data: DataSettings, folder: Path, training: bool = True) -> DataSettings:
    """Convert each JSON Lines file that the settings name to a store, and hold out images for validation.

    Where training and validation name the same file or store, each gets a part of its images, unless the
    settings allow shared images.

    Args:
        data: Settings whose stores may be files that end in .jsonl.
        folder: The run's folder, in which the stores are written, or reused.
        training: Convert the training data too.

    Returns:
        The settings with stores instead of files.

    Raises:
        InvalidInputError, InvalidRecordError: A file is missing or has a line that breaks a rule.
    """
    data = _hold_out(data)
    train = data.train
    if training:
        train = [replace(entry, store=_store_of(entry, folder)) for entry in train]
    validation = {
        name: replace(entry, store=_store_of(entry, folder)) for name, entry in data.validation.items()
    }
    return replace(data, train=train, validation=validation)


def _hold_out(data: DataSettings) -> DataSettings:
    """Split the images of each store that is both for training and for validation."""
    if data.allow_shared_images:
        return data
    # Find the stores that are used whole on both sides
    shared = _whole_stores(data.train) & _whole_stores(data.validation.values())

    # Give each side its part of them
    def part(entry: TrainStore | ValidationStore, part_of_shared: Part) -> Part:
        return part_of_shared if entry.part == "all" and entry.store.resolve() in shared else entry.part

    train = [replace(entry, part=part(entry, "train")) for entry in data.train]
    validation = {
        name: replace(entry, part=part(entry, "validation")) for name, entry in data.validation.items()
    }
    return replace(data, train=train, validation=validation)


def _whole_stores(entries: Iterable[TrainStore | ValidationStore]) -> set[Path]:
    return {entry.store.resolve() for entry in entries if entry.part == "all"}


def _store_of(entry: TrainStore | ValidationStore, folder: Path) -> Path:
    """Return the path of an entry's store, converting a JSON Lines file to one."""
    path = entry.store
    if not is_json_lines(path):
        return path
    images = (entry.images or path.resolve().parent).resolve()
    target = folder / "stores" / f"{path.stem}-{_version(path, images)}"
    if not target.exists():
        write_store(target, read_json_lines(path, "all", images=images), images)
    return Store.open(target).path


def _version(path: Path, images: Path) -> str:
    """Return a hash that changes with a file's path, size and modification time, and its folder of images."""
    status = path.stat()
    content = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {images}"
    return f"{zlib.crc32(content.encode()):08x}"


def check_shared_images(data: DataSettings) -> None:
    """Check that training and validation share no image, unless the settings allow it.

    Args:
        data: Stores to train and evaluate on.

    Raises:
        RecipeError: They share images; the message names one of them.
    """
    if not data.allow_shared_images:
        check_disjoint(data.train, data.validation)


class Mixture(ConcatDataset[Example]):
    """Examples of several stores.

    Args:
        parts: The examples of each store.
        weights: Weight of each store: how often its examples are drawn, relative to those of other stores.

    Attributes:
        weights: Weight of each example; None if all are equal.
    """

    def __init__(self, parts: Sequence[ExampleDataset], weights: Sequence[float]) -> None:
        super().__init__(parts)
        self.parts = list(parts)
        self.weights: list[float] | None = None
        if len(set(weights)) > 1:
            self.weights = []
            for part, weight in zip(parts, weights, strict=True):
                self.weights += [weight] * len(part)

    def shape(self, index: int) -> Size:
        """Return the height and width in pixels of an example's image in this epoch, without reading it."""
        part, row = self._locate(index)
        return part.shape(row)

    def name_of(self, index: int) -> tuple[Path, dict[str, str]]:
        """Return an example's store, and the source, split, id and image_id of its first record."""
        part, row = self._locate(index)
        return part.store.path, part.name_of(row)

    def _locate(self, index: int) -> tuple[ExampleDataset, int]:
        number = bisect_right(self.cumulative_sizes, index)
        return self.parts[number], index - (self.cumulative_sizes[number - 1] if number else 0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds all random choices."""
        for part in self.parts:
            part.set_epoch(epoch)


def training_data(
    settings: DataSettings,
    seed: int,
    size: Mapping[str, int] | None = None,
    stores: Sequence[Store] | None = None,
) -> Mixture:
    """Make the training examples, augmented.

    Args:
        settings: Stores to train on, and how to augment them.
        seed: Seed of the random choices.
        size: Size of the model's images, "shortest_edge" and "longest_edge" in pixels; None if the model does
            not resize images.
        stores: Opened stores, one for each of `settings.train`; None to open them.

    Returns:
        The examples.
    """
    if stores is None:
        stores = list(map(open_store, settings.train))
    parts = [_training_examples(store, settings, seed, size) for store in stores]
    return Mixture(parts, [entry.weight for entry in settings.train])


def _training_examples(
    store: Store, settings: DataSettings, seed: int, size: Mapping[str, int] | None
) -> ExampleDataset:
    augmentation = _image_augmentation(settings, size)
    steps = [] if augmentation is None else [augmentation]
    if settings.mosaic:
        steps.append(Mosaic(settings.mosaic, ExampleDataset(store, augmentation).draw))
    # Texts are composed last: their words depend on where the boxes are in the augmented image
    if settings.compose_texts:
        steps.append(ComposeTexts(settings.texts_per_image or 4))
    return ExampleDataset(
        store,
        Compose(tuple(steps)) if steps else None,
        settings.texts_per_image,
        seed,
        by_image=settings.examples == "image",
    )


def _image_augmentation(settings: DataSettings, size: Mapping[str, int] | None) -> Augmentation | None:
    chosen = settings.augmentation
    if chosen == "model_size":
        if size is None:  # the model does not resize images
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


class EpochSampler(WeightedRandomSampler):
    """Draws examples with replacement by weight, or each example once.

    The order depends on the seed and the epoch only, so that a resumed run has the same.

    Args:
        data: The examples.
        weights: Weight of each example; None to draw each example once.
        seed: Seed of the order.
    """

    def __init__(self, data: Sized, weights: Sequence[float] | None, seed: int) -> None:
        even = weights is None
        super().__init__(
            [1.0] * len(data) if weights is None else weights,
            len(data),
            replacement=not even,
            generator=torch.Generator(),
        )
        self.even = even
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the order."""
        self.generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        if self.even:  # multinomial sampling is limited to 2**24 examples
            yield from torch.randperm(self.num_samples, generator=self.generator).tolist()
        else:
            yield from super().__iter__()


def make_sampler(
    dataset: Mixture,
    settings: DataSettings,
    batch_size: int,
    seed: int,
    resized: Callable[[Size], Size],
) -> EpochSampler | ShapeGroupedSampler:
    """Make the sampler of a training set.

    Args:
        dataset: The examples.
        settings: Whether a batch has images of similar shapes, and how images are augmented.
        batch_size: Examples in a batch, over all processes.
        seed: Seed of the order.
        resized: Function from an image's (height, width) to the size that the processor gives it.

    Returns:
        The sampler.
    """
    # Images of one size need no grouping
    sampler = EpochSampler(dataset, dataset.weights, seed)
    if isinstance(settings.augmentation, FixedSizeAugmentation) or not settings.group_by_shape:
        return sampler

    # Without augmentation the processor resizes images, otherwise the augmentation has done it
    def shape(index: int) -> Size:
        size = dataset.shape(index)
        return resized(size) if settings.augmentation == "none" else size

    return ShapeGroupedSampler(sampler, shape, batch_size, seed)


class ShapeGroupedSampler(Sampler[int]):
    """Reorders the examples of a sampler to give each batch images of similar shapes.

    Args:
        base: The examples in random order.
        shape: Function from an example's index to the height and width of its image in pixels.
        batch_size: Examples in a batch, over all processes.
        seed: Seed of the order of the batches.
        window: Number of batches that are regrouped together; more reduce padding and randomness.
    """

    def __init__(
        self,
        base: EpochSampler,
        shape: Callable[[int], Size],
        batch_size: int,
        seed: int,
        window: int = WINDOW,
    ) -> None:
        self.base = base
        self.shape = shape
        self.batch_size = batch_size
        self.seed = seed
        self.window = window
        self._skipped = 0
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.base)

    def skip(self, number: int) -> None:
        """Announce that the first examples of the next pass are discarded, and need no shapes."""
        self._skipped = number

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the order."""
        self.base.set_epoch(epoch)
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self._epoch))
        indices = iter(self.base)
        size = self.window * self.batch_size

        # Pass over the windows of a resumed run that are discarded, drawing the numbers that grouping draws
        for _ in range(self._skipped // size):
            yield from islice(indices, size)
            generator.permutation(self.window)
        self._skipped = 0

        # Group the others; looking up the next window's shapes one by one delays no step for all of them
        window = [(index, self.shape(index)) for index in islice(indices, size)]
        while window:
            following: list[tuple[int, Size]] = []
            for index in self._group(window, generator):
                yield index
                following += [(later, self.shape(later)) for later in islice(indices, 1)]
            window = following

    def _group(self, window: list[tuple[int, Size]], generator: np.random.Generator) -> Iterator[int]:
        """Iterate over the examples of a window, batch by batch; an incomplete batch stays last."""
        groups = group_by_shape(np.array([shape for _, shape in window]), self.batch_size)
        complete = len(window) // self.batch_size
        for number in (*generator.permutation(complete), *range(complete, len(groups))):
            for position in groups[number]:
                yield window[position][0]


def group_by_shape(shapes: npt.NDArray[Any], size: int) -> list[Integers]:
    """Group images of similar heights and widths.

    The images are halved by height or by width, whichever leaves less padding, down to the size of a group.

    Args:
        shapes: (N, 2) height and width of each image.
        size: Images in a group.

    Returns:
        The indices of each group's images; the last group may be smaller.
    """

    def padded_area(group: Integers) -> int:
        return len(group) * int(shapes[group].max(axis=0).prod())

    def halve(group: Integers) -> list[Integers]:
        if len(group) <= size:
            return [group] if len(group) else []
        # Split at a multiple of the size, along the side that leaves less padding
        half = -(-len(group) // size) // 2 * size
        halves = []
        for side in (0, 1):
            ordered = group[np.argsort(shapes[group, side], kind="stable")]
            halves.append((ordered[:half], ordered[half:]))
        first, second = min(halves, key=lambda pair: padded_area(pair[0]) + padded_area(pair[1]))
        return halve(first) + halve(second)

    return halve(np.arange(len(shapes)))
