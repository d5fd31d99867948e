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
"""(image (3, H, W) uint8, its records, random number generator) -> augmented image and records."""


@dataclass(frozen=True)
class Example:
    """Image, (3, H, W) uint8, with its records."""

    image: Tensor
    records: Records


class Outlines:
    """Boxes and image sizes of a store in memory, which are enough to predict augmented sizes."""

    def __init__(self, store: Store) -> None:
        table = store.columns(["height", "width", "boxes"]).combine_chunks()
        self._sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
        counts = pc.list_value_length(table["boxes"]).to_numpy()
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        flat = pc.list_flatten(pc.list_flatten(table["boxes"]))
        self._boxes = flat.to_numpy().reshape(-1, 4)

    def __getitem__(self, row: int) -> Record:
        """Make a record of one row with only boxes and size."""
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
    """Data set with one item per image of a store, or per text.

    After `set_epoch`, random choices depend only on (seed, epoch, index), for any number of workers and after
    a resume. Before, they follow torch's random state in each process.
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
            store: Store of the records.
            augmentation: Augmentation of an image and its records; None for none.
            texts_per_image: Maximum number of records of an image, sampled without replacement and kept in
                the order of the store; None for all.
            seed: Seed of the random choices.
            by_image: Whether an item has all texts of an image; false for one item per text.
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
        return Example(*self._make(index, self._generator(index)))

    def draw(self, generator: Generator) -> tuple[Tensor, Records]:
        """Draw a random image, (3, H, W) uint8, and its records, augmented."""
        return self._make(int(torch.randint(len(self), (), generator=generator)), generator)

    def _make(self, index: int, generator: Generator) -> tuple[Tensor, Records]:
        records = tuple(self.store[row] for row in self._choose_rows(index, generator))
        image = self.store.load_image(records[0])
        if self.augmentation is not None:
            image, records = self.augmentation(image, records, generator)
        return image, records

    def shape(self, index: int) -> Size:
        """Predict the height and width in pixels of an example's image in this epoch, without reading it.

        The first call reads the sizes and boxes of the whole store into memory, some 30 bytes per row and 16
        per box, since each random read of a row would decode a whole row group.
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
        """Return source, split, id and image_id of an example's first record, even if it cannot be read."""
        return self.store.name_of(int(self._rows[self._bounds[index]]))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the random choices (called by `transformers.Trainer`)."""
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
    """Sort the row numbers by image, in the order of their first rows; return them with the image bounds."""
    table = store.columns(["source", "split", "image_id"])

    # Number the distinct images
    key = np.zeros(len(table), dtype=np.int64)
    for name in table.column_names:
        codes = table[name].dictionary_encode().combine_chunks()
        values = codes.indices.to_numpy().astype(np.int64)
        key = np.unique(key * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    _, first, image_of_row = np.unique(key, return_index=True, return_inverse=True)

    # Renumber them in the order of their first rows
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    image_of_row = rank[image_of_row]

    # Sort the rows by image
    rows = np.argsort(image_of_row, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(np.bincount(image_of_row, minlength=len(first)))))
    return rows, bounds
