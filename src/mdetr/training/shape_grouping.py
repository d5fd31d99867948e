"""Sampler that groups images of similar shape into a batch.

A batch is padded to its highest and its widest image; what is padded is computed in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler, WeightedRandomSampler

from mdetr.data.augment import FixedSizeAugmentation
from mdetr.processing.coordinates import Size
from mdetr.training.datasets import DataSettings, Mixture

WINDOW = 64  # batches, among which examples change places

Integers = npt.NDArray[np.int64]


class EpochSampler(WeightedRandomSampler):
    """Draws with replacement by weight, or each example once; the same wherever training resumes.

    Args:
        data: the examples. weights: how often each is drawn; None for each once. seed: of the order.
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
        """Make the draws those of this epoch ."""
        self.generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        if self.even:  # multinomial could not draw from as many
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
    """Make the sampler of a recipe.

    Args:
        dataset: The examples.
        settings: Whether images of like shapes share a batch, and how they are augmented.
        batch_size: Over all processes.
        seed: Of the order.
        resized: The size, (height, width), that the processor gives to an image of a size.
    """
    sampler = EpochSampler(dataset, dataset.weights, seed)
    if isinstance(settings.augmentation, FixedSizeAugmentation) or not settings.group_by_shape:
        return sampler

    def shape(index: int) -> Size:
        size = dataset.shape(index)
        return resized(size) if settings.augmentation == "none" else size

    return ShapeGroupedSampler(sampler, shape, batch_size, seed)


class ShapeGroupedSampler(Sampler[int]):
    """Gives a sampler's examples in such an order that those of a batch have like shapes.

    Args:
        base: the examples in random order. shape: of an example, height and width in pixels.
        batch_size: over all processes. seed: of the order of the batches.
        window: how many batches of examples are sorted at a time; more waste less and are less random.
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
        """Say that nobody looks at the first examples of the next pass: their shapes need not be known."""
        self._skipped = number

    def set_epoch(self, epoch: int) -> None:
        """Make the order that of this epoch ."""
        self.base.set_epoch(epoch)
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self._epoch))
        indices = iter(self.base)
        size = self.window * self.batch_size
        for _ in range(self._skipped // size):
            yield from islice(indices, size)
            generator.permutation(self.window)  # as if it were grouped
        self._skipped = 0
        window = [(index, self.shape(index)) for index in islice(indices, size)]
        while window:
            following = []
            for index in self._group(window, generator):
                yield index
                # the next window's shapes are looked up one by one, so that no step waits for all
                following += [(later, self.shape(later)) for later in islice(indices, 1)]
            window = following

    def _group(self, window: list[tuple[int, Size]], generator: np.random.Generator) -> list[int]:
        groups = group_by_shape(np.array([shape for _, shape in window]), self.batch_size)
        whole = len(window) // self.batch_size  # what is left over stays last
        order = [*generator.permutation(whole), *range(whole, len(groups))]
        return [window[place][0] for group in order for place in groups[group]]


def group_by_shape(shapes: npt.NDArray[Any], size: int) -> list[Integers]:
    """Places of N shapes (N, 2) in groups of `size` with like heights and widths; the last may be smaller.

    The shapes are halved by height or by width, whichever leaves less to pad, again and again.
    """

    def padded(places: Integers) -> int:
        return len(places) * int(shapes[places].max(axis=0).prod())

    def halve(places: Integers) -> list[Integers]:
        if len(places) <= size:
            return [places] if len(places) else []
        half = -(-len(places) // size) // 2 * size  # whole groups
        sorted_by_side = (places[np.argsort(shapes[places, side], kind="stable")] for side in (0, 1))
        first, second = min(
            ((ordered[:half], ordered[half:]) for ordered in sorted_by_side),
            key=lambda halves: sum(map(padded, halves)),
        )
        return halve(first) + halve(second)

    return halve(np.arange(len(shapes)))
