"""Validation split by image, and the check that it is disjoint from the training data."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from mdetr.data.image_paths import image_path
from mdetr.data.store import Store
from mdetr.errors import InvalidInputError, RecipeError
from mdetr.settings import STRICT, Positive

HELD_OUT = 10  # one of this many images is for validation
_COMPARED = 8  # number of images with the same id whose contents are compared

Part = Literal["all", "train", "validation"]


@dataclass(frozen=True, config=STRICT)
class TrainStore:
    """A store to train on.

    Attributes:
        store: Its folder, or a JSON Lines file (docs/data.md), which is converted to a store.
        weight: Images are drawn in proportion to their number times the weight.
        part: "train" for nine of ten images, chosen by a hash of their ids; "validation" for the others.
        images: For a JSON Lines file, the folder that its images are in; null for the file's folder.
    """

    store: Path
    weight: Positive = 1.0
    part: Part = "all"
    images: Path | None = None


@dataclass(frozen=True, config=STRICT)
class ValidationStore:
    """A store to evaluate on.

    Attributes:
        store: Its folder, or a JSON Lines file.
        tasks: Tasks that score it.
        max_images: Number of images that are evaluated; null for all.
        classes: For the task "detection", the annotation file (LVIS's, COCO's) that lists the classes to
            detect.
        part: As in `TrainStore`.
        images: As in `TrainStore`.
    """

    store: Path
    tasks: list[str]
    max_images: PositiveInt | None = None
    classes: Path | None = None
    part: Part = "all"
    images: Path | None = None


def open_store(entry: TrainStore | ValidationStore) -> Store:
    """Open the store of a recipe's entry, or the entry's part of the store.

    Args:
        entry: Settings of a store to train or evaluate on.

    Returns:
        The store, or a selection of its rows.

    Raises:
        InvalidInputError: There is no such store.
        RecipeError: The store has too few images to be split.
    """
    store = Store.open(entry.store)
    if entry.part == "all" or not len(store):
        return store
    is_validation = held_out(store.image_ids())
    part = store.select(np.flatnonzero(is_validation == (entry.part == "validation")))
    if not len(part):
        raise RecipeError(
            f"{entry.store} has too few images to keep one in {HELD_OUT} for validation; add images, name "
            "another store under data.validation, or set data.allow_shared_images=true to score the images "
            "that are trained on."
        )
    return part


def check_stores(entries: Iterable[TrainStore | ValidationStore]) -> None:
    """Check that stores can be opened, before anything slow is done or anything is written.

    Args:
        entries: Stores; JSON Lines files are left to their conversion.

    Raises:
        InvalidInputError: A store is damaged or of another version.
    """
    for entry in entries:
        if entry.store.is_dir():
            Store.open(entry.store)


def held_out(image_ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Choose the images for validation: one in ten by a hash of their ids, and at least one.

    Args:
        image_ids: (n,) image id of each row.

    Returns:
        (n,) whether the image of each row is for validation; the same ids always give the same choice.
    """
    encoded = image_ids.dictionary_encode().combine_chunks()
    names = encoded.dictionary.to_pylist()
    hashes = np.array([zlib.crc32(name.encode()) for name in names])
    is_held_out = hashes % HELD_OUT == 0

    # Hold out exactly one image if the hash would put all of them into one part
    if is_held_out.all() or not is_held_out.any():
        is_held_out = np.arange(len(names)) == hashes.argmin()
    by_row: npt.NDArray[np.bool_] = is_held_out[encoded.indices.to_numpy()]
    return by_row


def check_disjoint(train: Sequence[TrainStore], validation: Mapping[str, ValidationStore]) -> None:
    """Check that training and validation share no image.

    Images are the same if they are the same file, or have the same id and the same content.

    Args:
        train: Stores to train on.
        validation: Name -> store to evaluate on.

    Raises:
        RecipeError: They share images; the message names one of them.
    """
    train_stores = [open_store(entry) for entry in train]
    for name, entry in validation.items():
        validation_store = open_store(entry)
        for store in train_stores:
            shared = _shared_files(store, validation_store) or _shared_contents(store, validation_store)
            if shared:
                raise RecipeError(
                    f"Training on {store.path} and validation on {validation_store.path} ({name}) share "
                    f"{len(shared)} {'image' if len(shared) == 1 else 'images'}, such as {shared[0]}, so the "
                    "scores would be of images that the model was trained on: keep them apart, or set "
                    "data.allow_shared_images=true if that is meant."
                )


def _shared_files(first: Store, second: Store) -> list[str]:
    """List the image files that both stores name."""
    return sorted(_files(first) & _files(second))


def _files(store: Store) -> set[str]:
    """Collect the absolute paths of all image files of a store."""
    root = (store.image_root or Path()).resolve()
    names = pc.unique(store.columns(["image"])["image"]).to_pylist()
    return {str(root / name) for name in names if name is not None}


def _shared_contents(first: Store, second: Store) -> list[str]:
    """List the image ids that both stores have, if some of their images are identical."""
    shared = sorted(_unique_ids(first) & _unique_ids(second))
    if not shared:
        return []

    # Compare a few images only: two data sets that number their images alike differ in all of them
    compared = set(shared[:_COMPARED])
    first_contents, second_contents = dict(_contents(first, compared)), dict(_contents(second, compared))
    for image_id in first_contents.keys() & second_contents.keys():
        if first_contents[image_id] == second_contents[image_id]:
            return shared
    return []


def _unique_ids(store: Store) -> set[str]:
    return set(pc.unique(store.image_ids()).to_pylist())


def _contents(store: Store, ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """Read the encoded image of each id, and leave out files that cannot be read."""
    remaining = set(ids)
    rows = np.flatnonzero(pc.is_in(store.image_ids(), pa.array(sorted(ids))).to_numpy(zero_copy_only=False))
    for row in rows.tolist():
        image_id = store.name_of(row)["image_id"]
        if image_id not in remaining:
            continue
        remaining.discard(image_id)
        image = store[row].image
        if not isinstance(image, bytes):
            try:
                image = image_path(store.image_root, image).read_bytes()
            except (OSError, InvalidInputError):
                continue  # training and evaluation report it
        yield image_id, image
