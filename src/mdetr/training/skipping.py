"""Examples, some of which cannot be read, in; others in their places, and a list of them, out."""

from __future__ import annotations

import json
from pathlib import Path

from torch.utils.data import Dataset

from mdetr.data.examples import Example
from mdetr.errors import InvalidInputError, InvalidRecordError, TrainingError
from mdetr.training.datasets import Mixture

MAX_SHARE = 0.01  # of the examples that may be broken


class SkippingDataset(Dataset[Example]):
    """Gives the next example instead of one whose image is missing or damaged.

    Each is written down once, as a line of JSON in a file that all workers and processes share.

    Args:
        mixture: the examples. log: the file. max_share: of the examples; if more are broken, training stops.
    """

    def __init__(self, mixture: Mixture, log: Path, max_share: float = MAX_SHARE) -> None:
        self.mixture = mixture
        self.log = log
        self.max_share = max_share

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, index: int) -> Example:
        for place in range(index, index + len(self)):
            try:
                return self.mixture[place % len(self)]
            except (InvalidInputError, InvalidRecordError) as error:
                self._write_down(place % len(self), str(error))
        raise TrainingError("No example can be read.")

    def _write_down(self, index: int, reason: str) -> None:
        known = self.broken()
        if index not in known:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"example": index, "reason": reason}) + "\n")
            known.add(index)
        if len(known) > max(1, self.max_share * len(self)):
            raise TrainingError(
                f"{len(known)} of {len(self)} examples cannot be read, more than {self.max_share:.0%}; "
                f"they are listed in {self.log}."
            )

    def broken(self) -> set[int]:
        """The places of the examples that could not be read so far."""
        if not self.log.is_file():
            return set()
        return {
            int(json.loads(line)["example"]) for line in self.log.read_text(encoding="utf-8").splitlines()
        }
