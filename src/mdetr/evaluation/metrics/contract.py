"""The contract of all metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.processing.prediction import Prediction


class Metric(Protocol):
    """Keeps the score of one task over the batches of an evaluation."""

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: The model's for B texts; they are made once a batch for all metrics.
            records: The B records of these texts, in order.

        Returns:
            A score of each record that the task scores one by one.

        Raises:
            InvalidInputError: There are more or fewer records than predictions, or the model does not predict
                what the task scores.
        """
        ...

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together and return them by name; every process must call it."""
        ...


def paired(
    predictions: Sequence[Prediction], records: Sequence[Record]
) -> Iterator[tuple[Prediction, Record]]:
    """Each prediction with its record.

    Raises:
        InvalidInputError: There are more or fewer records than predictions.
    """
    if len(predictions) != len(records):
        raise InvalidInputError(
            f"Expected the model's output for {len(records)} records, found it for {len(predictions)} texts: "
            "score each batch with its own records."
        )
    return zip(predictions, records, strict=True)
