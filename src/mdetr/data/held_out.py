"""Validation split by image, and the check that it is disjoint from the training data."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from mdetr.data.store import Store
from mdetr.errors import RecipeError
from mdetr.settings import STRICT

HELD_OUT = 10  # one image in so many is for validation
_COMPARED = 8  # images of one id whose contents are looked at

Part = Literal["all", "train", "validation"]


@dataclass(frozen=True, config=STRICT)
class TrainStore:
    """A store to train on.

    Attributes:
        store: Its folder, or a JSON Lines file (docs/data.md), which is converted to a store.
        weight: Images are drawn in proportion to their number times the weight.
        part: "train" for nine of ten images, chosen by a hash of their ids; "validation" for the others.
    """

    store: Path
    weight: PositiveFloat = 1.0
    part: Part = "all"


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
    """

    store: Path
    tasks: list[str]
    max_images: PositiveInt | None = None
    classes: Path | None = None
    part: Part = "all"


def open_store(entry: TrainStore | ValidationStore) -> Store:
    """Open the store that a recipe names, or the part of its images that it names.

    Raises:
        InvalidInputError: There is no such store.
        RecipeError: The store has too few images to be parted.
    """
    store = Store.open(entry.store)
    if entry.part == "all" or not len(store):
        return store
    kept = held_out(store.image_ids())
    part = store.select(np.flatnonzero(kept == (entry.part == "validation")))
    if not len(part):
        raise RecipeError(
            f"{entry.store} has too few images to keep one in {HELD_OUT} for validation; add images, name "
            "another store under data.validation, or set data.allow_shared_images=true to score the images "
            "that are trained on."
        )
    return part


def held_out(image_ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Choose the images for validation: one in ten by a hash of their ids, and at least one.

    Args:
        image_ids: (n,) the image id of each row.

    Returns:
        (n,) whether the row's image is for validation; the same ids always give the same choice.
    """
    encoded = image_ids.dictionary_encode().combine_chunks()
    names = encoded.dictionary.to_pylist()
    hashes = np.array([zlib.crc32(name.encode()) for name in names])
    kept = hashes % HELD_OUT == 0
    if kept.all() or not kept.any():
        kept = np.arange(len(names)) == hashes.argmin()
    chosen: npt.NDArray[np.bool_] = kept[encoded.indices.to_numpy()]
    return chosen


def check_disjoint(train: Sequence[TrainStore], validation: Mapping[str, ValidationStore]) -> None:
    """Check that training and validation share no image.

    Images are the same if they are the same file, or have the same id and the same content.

    Args:
        train: Stores to train on.
        validation: Name -> store to evaluate on.

    Raises:
        RecipeError: They share images; the message names one of them.
    """
    trained_on = [open_store(entry) for entry in train]
    for name, entry in validation.items():
        scored = open_store(entry)
        for store in trained_on:
            shared = _shared_files(store, scored) or _shared_contents(store, scored)
            if shared:
                raise RecipeError(
                    f"Training on {store.path} and validation on {scored.path} ({name}) share "
                    f"{len(shared)} {'image' if len(shared) == 1 else 'images'}, such as {shared[0]}, so the "
                    "scores would be of images that the model was trained on: keep them apart, or set "
                    "data.allow_shared_images=true if that is meant."
                )


def _shared_files(first: Store, second: Store) -> list[str]:
    files = [_files(store) for store in (first, second)]
    return sorted(files[0] & files[1])


def _files(store: Store) -> set[str]:
    root = (store.image_root or Path()).resolve()
    names = pc.unique(store.columns(["image"])["image"]).to_pylist()
    return {str(root / name) for name in names if name is not None}


def _shared_contents(first: Store, second: Store) -> list[str]:
    """The ids that both have, if the images of some of them are the same bytes."""
    ids = [set(pc.unique(store.image_ids()).to_pylist()) for store in (first, second)]
    shared = sorted(ids[0] & ids[1])
    some = set(shared[:_COMPARED])
    contents = [dict(_contents(store, some)) for store in (first, second)] if some else [{}, {}]
    same = any(contents[0][key] == contents[1][key] for key in contents[0].keys() & contents[1].keys())
    return shared if same else []


def _contents(store: Store, ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """The encoded image of each id that can be read."""
    left = set(ids)
    rows = np.flatnonzero(pc.is_in(store.image_ids(), pa.array(sorted(ids))).to_numpy(zero_copy_only=False))
    for row in rows.tolist():
        name = store.name_of(row)["image_id"]
        if name not in left:
            continue
        left.discard(name)
        image = store[row].image
        if not isinstance(image, bytes):
            try:
                image = ((store.image_root or Path()) / image).read_bytes()
            except OSError:
                continue  # training and evaluation list it
        yield name, image
