"""Dataset of training examples: one image with a sample of its texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from mdetr.data.record import Record
from mdetr.data.store import Store
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Size

Records = tuple[Record, ...]
Augmentation = Callable[[Tensor, Records, Generator], tuple[Tensor, Records]]
"""(image (3, H, W) uint8, its records, the source of randomness) -> the same, moved together."""


@dataclass(frozen=True)
class Example:
    """An image, (3, H, W) uint8, and the records about it."""

    image: Tensor
    records: Records


class Outlines:
    """The records of a store, in memory, without all that augmentation does not look at to choose sizes."""

    def __init__(self, store: Store) -> None:
        table = store.columns(["height", "width", "boxes"]).combine_chunks()
        self._sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
        counts = pc.list_value_length(table["boxes"]).to_numpy()
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        flat = pc.list_flatten(pc.list_flatten(table["boxes"]))
        self._boxes = flat.to_numpy().reshape(-1, 4)

    def __getitem__(self, row: int) -> Record:
        """The record of one row, with boxes and size alone."""
        boxes = self._boxes[self._starts[row] : self._starts[row + 1]].tolist()
        height, width = self._sizes[row].tolist()
        return Record(
            source="",
            split="",
            id=str(row),
            image="",
            image_id="",
            height=height,
            width=width,
            text="",
            boxes=tuple(map(tuple, boxes)),
            spans=((),) * len(boxes),
        )


class ExampleDataset(Dataset[Example]):
    """One item per image of a store, or per text.

    Random choices depend on (seed, epoch, index) alone once `set_epoch` was called, however many workers
    there are and wherever training resumes. Without it they follow torch's own random state in each process.
    """

    def __init__(
        self,
        store: Store,
        augmentation: Augmentation | None = None,
        texts_per_image: int | None = None,
        seed: int = 0,
        by_image: bool = True,
    ) -> None:
        """Group a store's rows by image.

        Args:
            store: the records.
            augmentation: what to do to each image and its records together; None for nothing.
            texts_per_image: at most how many records of an image are drawn, without repetition, in the order
                of the store; None for all.
            seed: of the random choices.
            by_image: false for an item of its own for each text.
        """
        if texts_per_image is not None and texts_per_image < 1:
            raise InvalidInputError(
                f"Expected texts_per_image of at least 1, or None for all texts, got {texts_per_image}."
            )
        self.store = store
        self.augmentation = augmentation
        self.texts_per_image = texts_per_image
        self.seed = seed
        if by_image:
            self._rows, self._bounds = _group_by_image(store)
        else:
            self._rows, self._bounds = np.arange(len(store)), np.arange(len(store) + 1)
        self._outlines: Outlines | None = None
        self._epoch = torch.full((), -1).share_memory_()  # persistent workers see the epoch change

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} images; there is no example {index}.")
        generator = self._generator(index)
        records = tuple(self.store[row] for row in self._choose_rows(index, generator))
        image = self.store.load_image(records[0])
        if self.augmentation is not None:
            image, records = self.augmentation(image, records, generator)
        return Example(image, records)

    def shape(self, index: int) -> Size:
        """Height and width in pixels that the example's image has in this epoch, without reading it.

        The first call reads the sizes and boxes of the whole store, some 30 bytes a row and 16 a box, which
        this process keeps: rows at random would cost a decoded group of rows each.
        """
        if self._outlines is None:
            self._outlines = Outlines(self.store)
        generator = self._generator(index)
        records = tuple(self._outlines[row] for row in self._choose_rows(index, generator))
        size = records[0].height, records[0].width
        if self.augmentation is None:
            return size
        image, _ = self.augmentation(torch.empty(3, *size, device="meta"), records, generator)
        return image.shape[-2], image.shape[-1]

    def name_of(self, index: int) -> dict[str, str]:
        """The source, split, id and image_id of an example's first record, whether or not it can be read."""
        return self.store.name_of(int(self._rows[self._bounds[index]]))

    def set_epoch(self, epoch: int) -> None:
        """Make the random choices those of this epoch (`transformers.Trainer` calls it)."""
        self._epoch.fill_(epoch)

    def _generator(self, index: int) -> Generator:
        epoch = int(self._epoch)
        if epoch < 0:
            return Generator().manual_seed(int(torch.randint(2**62, ())))
        state = np.random.SeedSequence((self.seed, epoch, index)).generate_state(1, np.uint64)
        return Generator().manual_seed(int(state[0] >> 1))

    def _choose_rows(self, index: int, generator: Generator) -> list[int]:
        rows = self._rows[self._bounds[index] : self._bounds[index + 1]]
        if self.texts_per_image is not None and len(rows) > self.texts_per_image:
            chosen = torch.randperm(len(rows), generator=generator)[: self.texts_per_image]
            rows = rows[np.sort(chosen.numpy())]
        return rows.tolist()


def _group_by_image(store: Store) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All row numbers, image after image in the order of their first rows, and where each image begins."""
    table = store.columns(["source", "split", "image_id"])
    key = np.zeros(len(table), dtype=np.int64)
    for name in table.column_names:
        codes = table[name].dictionary_encode().combine_chunks()
        values = codes.indices.to_numpy().astype(np.int64)
        key = np.unique(key * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    _, first, image_of_row = np.unique(key, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    image_of_row = place[image_of_row]
    rows = np.argsort(image_of_row, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(np.bincount(image_of_row, minlength=len(first)))))
    return rows, bounds
