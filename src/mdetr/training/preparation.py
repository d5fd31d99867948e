"""Preparation of a run's data: stores of JSON Lines files, and no records that the model cannot take."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mdetr.data.broken_examples import TRAINING, BrokenExamples, without_unusable
from mdetr.data.held_out import Part, open_store
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.store import Store, write_store
from mdetr.data.unusable import count_crowded, scored_tasks
from mdetr.errors import RecipeError
from mdetr.evaluation.evaluator import Validation
from mdetr.training.build import Components
from mdetr.training.datasets import DataSettings, Mixture, check_shared_images, training_data
from mdetr.training.ema import start_fraction
from mdetr.training.optimization import total_steps
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import is_json_lines

_BY_RECORD = ("phrase_grounding", "referring", "question_answering", "segmentation")
MAX_START_FRACTION = 0.1  # of the start weights in the saved average, above which a run is warned


@dataclass(frozen=True)
class RunData:
    """The training examples of a run, and its validations by name."""

    mixture: Mixture
    validations: dict[str, Validation]


def prepare_data(
    recipe: Recipe, components: Components, say: Callable[[str], object], broken: BrokenExamples | None = None
) -> RunData:
    """Open the data of a recipe without the records that the model cannot take.

    Args:
        recipe: Names the data.
        components: What is trained on them.
        say: Called with a sentence for each thing that a person should know before the run starts.
        broken: The list of what is left out; None to list nothing.

    Raises:
        TrainingError: More than 1 % of the records cannot be used.
        RecipeError: There is nothing to train on, or training and validation share images.
    """
    validations: dict[str, Validation] = {}
    for name, entry in recipe.data.validation.items():
        validations[name] = validation = Validation.open(entry, components.processor, name, broken)
        if validation.note is not None:
            say(validation.note)
        fitting = scored_tasks(validation.dataset.store)
        if fitting and set(entry.tasks) <= set(_BY_RECORD) - set(fitting):
            say(
                f"Warning: the records of {name} say nothing that {', '.join(entry.tasks)} could score; set "
                f"data.validation.{name}.tasks=[{', '.join(fitting)}]."
            )
    opened = list(map(open_store, recipe.data.train))
    stores, note = without_unusable(TRAINING, opened, components.unusable, broken)
    if note is not None:
        say(note)
    check_shared_images(recipe.data)

    if components.num_queries is not None:
        crowded = sum(count_crowded(store, components.num_queries) for store in stores)
        if crowded:
            have = "1 text has" if crowded == 1 else f"{crowded:,} texts have"
            say(
                f"{have} more boxes than the model has queries ({components.num_queries}): in each step as "
                "many boxes as queries are learned; set model.config.num_queries higher to learn all."
            )
    mixture = training_data(recipe.data, recipe.seed, components.image_size, stores)
    if not len(mixture):
        raise RecipeError("There are no records to train on in any store of data.train; name others.")
    if recipe.ema is not None:
        steps = total_steps(recipe.optimizer, len(mixture))
        fraction = start_fraction(steps, recipe.ema.decay, recipe.ema.ramp)
        if fraction > MAX_START_FRACTION:
            say(
                f"Warning: after {steps:,} steps the average of the weights, which is saved, will still hold "
                f"{fraction:.1%} of those that are started from: set ema.ramp=true or a lower ema.decay, or "
                "train for more steps."
            )
    return RunData(mixture, validations)


def import_own_data(data: DataSettings, folder: Path, training: bool = True) -> DataSettings:
    """Make a store of each JSON Lines file that the settings name, and hold out images for validation.

    Where training and validation name the same file or store, each gets a part of its images, unless the
    settings allow shared images.

    Args:
        data: Settings whose stores may be files that end in .jsonl.
        folder: The run's folder, in which the stores are written, or reused.
        training: Convert the training data too.

    Returns:
        The settings with stores for files.

    Raises:
        InvalidInputError, InvalidRecordError: A file is missing or has a line that breaks a rule.
    """
    data = _hold_out(data)
    train = data.train
    if training:
        train = [replace(entry, store=_store_of(entry.store, folder)) for entry in train]
    validation = {
        name: replace(entry, store=_store_of(entry.store, folder)) for name, entry in data.validation.items()
    }
    return replace(data, train=train, validation=validation)


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
