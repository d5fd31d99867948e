"""Protocol that all metrics implement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.processing.prediction import Prediction


class Metric(Protocol):
    """Score of one task, accumulated over the batches of an evaluation."""

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: Predictions for B texts; made once per batch for all metrics.
            records: The B records of these texts, in order.

        Returns:
            Scores of the records that the task scores one by one.

        Raises:
            InvalidInputError: The numbers of records and predictions differ, or the model does not predict
                what the task scores.
        """
        ...

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            Name -> score; empty where no record was scored.
        """
        ...


def paired(
    predictions: Sequence[Prediction], records: Sequence[Record]
) -> Iterator[tuple[Prediction, Record]]:
    """Each prediction with its record.

    Args:
        predictions: Predictions for B texts.
        records: The B records of these texts, in order.

    Returns:
        B pairs.

    Raises:
        InvalidInputError: The numbers of records and predictions differ.
    """
    if len(predictions) != len(records):
        raise InvalidInputError(
            f"Expected one prediction for each of {len(records)} records, got {len(predictions)}; "
            "score each batch with its own records."
        )
    return zip(predictions, records, strict=True)
