"""Accuracy of visual question answering, and GQA's other scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.distributed import GroupedRows, RecordRows, hash_of, record_key
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.contract import paired
from mdetr.processing.prediction import Prediction

ALL = "all"  # the group of all questions


class QuestionAnsweringMetric:
    """Accuracy of answers.

    Scores the records with an answer. Of questions without one it says what the model answers, which is what
    a test server wants; it passes over all other records.

    Where the records keep what GQA tells of its questions (in `extra`), GQA's other scores are given too:
    validity and plausibility (the answer is among those that make sense, or that the data have for such a
    question), consistency (of questions answered rightly, the share of right answers to the questions that
    follow from them) and distribution (chi-square of the answers against the true ones, by group; less is
    better).

    Source: arXiv 2104.12763, section 4.2.3 and appendix D; the scores are those of GQA (arXiv 1902.09506,
    section 4.4) and CLEVR (arXiv 1612.06890).
    """

    def __init__(self) -> None:
        self._right = GroupedRows(columns=1)
        self._choices = GroupedRows(columns=1)
        self._by_record = RecordRows(columns=1)
        self._entailed = RecordRows(columns=1, dtype=np.int64)
        self._answers = RecordRows(
            columns=3, dtype=np.int64
        )  # hashes of the group, the true and the given one

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: of the model, for B texts.
            records: the B records of these texts, in order.

        Returns:
            For each question, whether its answer is right; NaN where the right one is not known.

        Raises:
            InvalidInputError: the model gives no answers.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            if record.answer is None and not protocol_fields(record).is_question:
                continue
            answer = prediction.answer
            if answer is None:
                raise InvalidInputError(
                    "This model gives no answers; take one that was trained for question answering."
                )
            if record.answer is not None:
                self.score_answer(record, answer)
            right = math.nan if record.answer is None else float(answer == record.answer)
            example_scores.append(ExampleScore(record, right, answer=answer))
        return example_scores

    def score_answer(self, record: Record, answer: str) -> None:
        """Score the answer to one question."""
        fields = protocol_fields(record)
        right = np.array([[answer == record.answer]], dtype=np.float32)
        kinds = [ALL, f"answer_type={record.answer_type}"]
        kinds += [f"question_type={fields.question_type}"] if fields.question_type else []
        kinds += [f"structural={fields.structural}"] if fields.structural else []
        for kind in kinds:
            self._right.add(kind, record, right)
        for name, choices in (("validity", fields.valid), ("plausibility", fields.plausible)):
            if choices is not None:
                self._choices.add(name, record, np.array([[answer in choices]], dtype=np.float32))
        if fields.entailed is not None:
            self._by_record.add(record, right)
            follow = [record_key(record.source, record.split, id) for id in fields.entailed]
            own = record_key(record.source, record.split, record.id)
            keys = [key for key in follow if key != own]
            self._entailed.add(record, np.array(keys, dtype=np.int64)[:, None])
        if fields.group:
            hashes = [hash_of(f"{fields.group}\0{text}") for text in (record.answer, answer)]
            self._answers.add(record, np.array([[hash_of(fields.group), *hashes]], dtype=np.int64))

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            accuracy, and accuracy/KIND=NAME for each type of answer and of question; num_questions, of how
            many; GQA's other scores where its facts are kept. Nothing where no question was scored.
        """
        scores: dict[str, float] = {}
        for kind, rows in self._right.merged().items():
            if len(rows):
                scores["accuracy" if kind == ALL else f"accuracy/{kind}"] = float(rows.mean())
                if kind == ALL:
                    scores["num_questions"] = float(len(rows))
        scores |= {name: float(rows.mean()) for name, rows in self._choices.merged().items() if len(rows)}
        keys, right = self._by_record.merged()
        of, entailed = self._entailed.merged()
        consistency = _consistency(keys, right[:, 0], of, entailed[:, 0])
        if consistency is not None:
            scores["consistency"] = consistency
        _, answers = self._answers.merged()
        if len(answers):
            scores["distribution"] = _distribution(answers)
        return scores


def _consistency(
    keys: NDArray[np.int64], right: NDArray[np.float32], of: NDArray[np.int64], entailed: NDArray[np.int64]
) -> float | None:
    """The mean, over right questions, of the share of right answers to what follows from them."""
    is_right = dict(zip(keys.tolist(), right.tolist(), strict=True))
    follow: dict[int, list[float]] = {}
    for key, other in zip(of.tolist(), entailed.tolist(), strict=True):
        if is_right[key] and other in is_right:
            follow.setdefault(key, []).append(is_right[other])
    return float(np.mean([np.mean(values) for values in follow.values()])) if follow else None


def _distribution(answers: NDArray[np.int64]) -> float:
    """Chi-square of the given answers, (n, 3) of group, true, given, weighted by the size of the groups."""
    groups, sizes = np.unique(answers[:, 0], return_counts=True)
    total = 0.0
    for group, size in zip(groups, sizes, strict=True):
        of_group = answers[answers[:, 0] == group]
        true, expected = np.unique(of_group[:, 1], return_counts=True)
        given = np.array([(of_group[:, 2] == answer).sum() for answer in true])
        total += float(((given - expected) ** 2 / expected).sum()) * size
    return total / len(answers)
