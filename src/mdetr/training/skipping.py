"""Training examples without the broken ones."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.data import Dataset

from mdetr.data.broken_examples import MAX_FRACTION, TRAINING, BrokenExamples, too_many
from mdetr.data.examples import Example
from mdetr.errors import InvalidInputError, InvalidRecordError, TrainingError
from mdetr.training.datasets import Mixture


class SkippingDataset(Dataset[Example]):
    """Gives the next example instead of one that cannot be used, such as one whose image is damaged.

    Args:
        mixture: The examples.
        broken: The list of those that could not be used.
        check: Raises an `InvalidInputError` for an example that can be read but not be used.
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
        for place in range(index, index + len(self)):
            try:
                example = self.mixture[place % len(self)]
                if self.check is not None:
                    self.check(example)
                return example
            except (InvalidInputError, InvalidRecordError) as error:
                self._write_down(place % len(self), str(error))
        raise TrainingError("No example can be read.")

    def _write_down(self, index: int, reason: str) -> None:
        store, name = self.mixture.name_of(index)
        self.broken.add_example(TRAINING, index, store, name, reason)
        count = len(self.broken.unreadable(TRAINING))
        if too_many(count, len(self)):
            raise TrainingError(
                f"{count:,} of {len(self):,} examples cannot be read, more than {MAX_FRACTION:.0%}; "
                f"they are listed in {self.broken.file}."
            )
