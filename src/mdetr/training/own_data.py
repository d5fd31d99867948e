"""A recipe that names JSON Lines files in; their stores, and the recipe that names these, out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mdetr.data.record import Record
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.store import Store, write_store
from mdetr.errors import RecipeError
from mdetr.training.recipe import Recipe

HELD_OUT = 10  # one image in so many is kept for validation, where both name the same file


def import_own_data(recipe: Recipe, folder: Path, training: bool = True) -> Recipe:
    """Make a store of each JSON Lines file that a recipe names instead of one.

    Where training and validation name the same file, the records of one image in ten are for validation only;
    which images these are depends on their names alone.

    Args:
        recipe: whose `data.train` and `data.validation` may name files that end in .jsonl.
        folder: the run's, in which the stores are made, or found again.
        training: whether those to train on are wanted too.

    Raises:
        InvalidInputError, InvalidRecordError: a file is missing or has a line that breaks a rule.
        RecipeError: a file has too few images to keep some for validation.
    """
    shared = {entry.store for entry in recipe.data.train} & {
        entry.store for entry in recipe.data.validation.values()
    }
    train = recipe.data.train
    if training:
        train = [
            replace(entry, store=_store_of(entry.store, folder, False if entry.store in shared else None))
            for entry in train
        ]
    validation = {
        name: replace(entry, store=_store_of(entry.store, folder, True if entry.store in shared else None))
        for name, entry in recipe.data.validation.items()
    }
    return replace(recipe, data=replace(recipe.data, train=train, validation=validation))


def _store_of(path: Path, folder: Path, held_out: bool | None) -> Path:
    """The store of a file; of one part of its images only, unless `held_out` is None."""
    if path.suffix != ".jsonl":
        return path
    part = {None: "all", False: "train", True: "validation"}[held_out]
    target = folder / "stores" / f"{path.stem}-{part}-{_version(path)}"
    if not target.exists():
        records = read_json_lines(path, part)
        write_store(target, records if held_out is None else _part(records, held_out), path.resolve().parent)
    store = Store.open(target)
    if not len(store):
        raise RecipeError(
            f"{path} has too few images to keep one in {HELD_OUT} for validation; name another file."
        )
    return store.path


def _version(path: Path) -> str:
    """What tells a file from others of its name, and from what it was before a change."""
    status = path.stat()
    return f"{zlib.crc32(f'{path.resolve()} {status.st_size} {status.st_mtime_ns}'.encode()):08x}"


def _part(records: Iterator[Record], held_out: bool) -> Iterator[Record]:
    for record in records:
        if (zlib.crc32(record.image_id.encode()) % HELD_OUT == 0) is held_out:
            yield record
