"""Training and validation data without the records and examples that a model cannot use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.data import Dataset

from mdetr.data.broken_examples import MAX_FRACTION, TRAINING, BrokenExamples, too_many, without_unusable
from mdetr.data.examples import Example
from mdetr.data.held_out import open_store
from mdetr.data.unusable import count_crowded, scored_tasks
from mdetr.errors import InvalidInputError, InvalidRecordError, RecipeError, TrainingError
from mdetr.evaluation.evaluator import Validation
from mdetr.training.build import Components
from mdetr.training.datasets import DataSettings, Mixture, check_shared_images, training_data

_BY_RECORD = ("phrase_grounding", "referring", "question_answering", "segmentation")


@dataclass(frozen=True)
class RunData:
    """Data of a run.

    Attributes:
        mixture: Training examples.
        validations: Name -> data to evaluate on.
        notes: Sentences that a user should read before the run starts.
    """

    mixture: Mixture
    validations: dict[str, Validation]
    notes: tuple[str, ...] = ()


def prepare_data(
    settings: DataSettings, components: Components, seed: int, broken: BrokenExamples | None = None
) -> RunData:
    """Open the data of a run without the records that the model cannot use.

    Args:
        settings: Stores to train and evaluate on.
        components: The model to train, and its processor.
        seed: Seed of the random choices in training.
        broken: List to which the omitted records are added; None for no list.

    Returns:
        The data, with a note about each kind of omitted record.

    Raises:
        TrainingError: More than 1 % of the records cannot be used.
        RecipeError: There is nothing to train on, or training and validation share images.
    """
    notes: list[str | None] = []

    # Open the validation stores
    validations: dict[str, Validation] = {}
    for name, entry in settings.validation.items():
        validations[name] = validation = Validation.open(entry, components.processor, name, broken)
        notes.append(validation.note)
        fitting = scored_tasks(validation.dataset.store)
        if fitting and set(entry.tasks) <= set(_BY_RECORD) - set(fitting):
            notes.append(
                f"Warning: the records of {name} have no labels for {', '.join(entry.tasks)}; set "
                f"data.validation.{name}.tasks=[{', '.join(fitting)}]."
            )

    # Open the training stores
    opened = list(map(open_store, settings.train))
    stores, note = without_unusable(TRAINING, opened, components.unusable, broken)
    notes.append(note)
    check_shared_images(settings)
    mixture = training_data(settings, seed, components.image_size, stores)
    if not len(mixture):
        raise RecipeError("There are no records to train on in any store of data.train; name others.")

    # Count texts with more boxes than queries
    if components.num_queries is not None:
        crowded = sum(count_crowded(store, components.num_queries) for store in stores)
        if crowded:
            texts = "1 text has" if crowded == 1 else f"{crowded:,} texts have"
            notes.append(
                f"{texts} more boxes than the model has queries ({components.num_queries}): each step trains "
                "on as many boxes as there are queries; set model.config.num_queries higher to train on all."
            )
    return RunData(mixture, validations, tuple(note for note in notes if note is not None))


class SkippingDataset(Dataset[Example]):
    """Replaces each example that cannot be used, such as one whose image is damaged, by the next one.

    Args:
        mixture: The examples.
        broken: List to which the examples that cannot be used are added.
        check: Function that raises an `InvalidInputError` for an example that can be read but not used.
    """

    def __init__(
        self, mixture: Mixture, broken: BrokenExamples, check: Callable[[Example], object] | None = None
    ) -> None:
        self.mixture = mixture
        self.broken = broken
        self.check = check

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, index: int) -> Example:
        # Try the examples from this one on, starting over at the end
        for following in range(index, index + len(self)):
            candidate = following % len(self)
            try:
                example = self.mixture[candidate]
                if self.check is not None:
                    self.check(example)
                return example
            except (InvalidInputError, InvalidRecordError) as error:
                self._record(candidate, str(error))
        raise TrainingError("No training example can be read; check the stores with 'mdetr data check'.")

    def _record(self, index: int, reason: str) -> None:
        """Add an example to the list; too many of them end the run."""
        store, name = self.mixture.name_of(index)
        self.broken.add_example(TRAINING, index, store, name, reason)
        count = len(self.broken.unreadable(TRAINING))
        if too_many(count, len(self)):
            raise TrainingError(
                f"{count:,} of {len(self):,} examples cannot be read, more than {MAX_FRACTION:.0%}; "
                f"they are listed in {self.broken.file}."
            )
