"""Import of the JSON Lines files that a recipe names, and their validation split."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

from mdetr.data.settings import DataSettings, Part
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.store import Store, write_store
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import is_json_lines


def import_own_data(recipe: Recipe, folder: Path, training: bool = True) -> Recipe:
    """Make a store of each JSON Lines file that a recipe names, and hold out images for validation.

    Where training and validation name the same file or store, each gets a part of its images, unless the
    recipe allows shared images.

    Args:
        recipe: Whose `data.train` and `data.validation` may name files that end in .jsonl.
        folder: The run's, in which the stores are made, or found again.
        training: Whether the data to train on are wanted too.

    Returns:
        The recipe with stores for files.

    Raises:
        InvalidInputError, InvalidRecordError: A file is missing or has a line that breaks a rule.
    """
    data = _hold_out(recipe.data)
    train = data.train
    if training:
        train = [replace(entry, store=_store_of(entry.store, folder)) for entry in train]
    validation = {
        name: replace(entry, store=_store_of(entry.store, folder)) for name, entry in data.validation.items()
    }
    return replace(recipe, data=replace(data, train=train, validation=validation))


def _hold_out(data: DataSettings) -> DataSettings:
    """The settings with a part of its images for each entry whose store is for training and validation."""
    if data.allow_shared_images:
        return data
    trained_on = {entry.store.resolve() for entry in data.train if entry.part == "all"}
    scored = {entry.store.resolve() for entry in data.validation.values() if entry.part == "all"}
    shared = trained_on & scored

    def part(store: Path, given: Part, of_shared: Part) -> Part:
        return of_shared if given == "all" and store.resolve() in shared else given

    train = [replace(entry, part=part(entry.store, entry.part, "train")) for entry in data.train]
    validation = {
        name: replace(entry, part=part(entry.store, entry.part, "validation"))
        for name, entry in data.validation.items()
    }
    return replace(data, train=train, validation=validation)


def _store_of(path: Path, folder: Path) -> Path:
    """The store of a JSON Lines file, or the store that the path is."""
    if not is_json_lines(path):
        return path
    target = folder / "stores" / f"{path.stem}-{_version(path)}"
    if not target.exists():
        write_store(target, read_json_lines(path, "all"), path.resolve().parent)
    return Store.open(target).path


def _version(path: Path) -> str:
    """What tells a file from others of its name, and from what it was before a change."""
    status = path.stat()
    return f"{zlib.crc32(f'{path.resolve()} {status.st_size} {status.st_mtime_ns}'.encode()):08x}"
