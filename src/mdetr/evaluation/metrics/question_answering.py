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

    Scores the records with an answer. For questions without one, as in test sets, it only returns the model's
    answer; it skips all other records.

    Records with GQA's annotations of the question (in `extra`) get GQA's other scores too: validity and
    plausibility (the answer is among those that make sense, or that the data have for such a question),
    consistency (of correctly answered questions, the fraction of correct answers to the questions that they
    entail) and distribution (chi-square of the answers against the true ones, by group; less is better).

    Source: arXiv 2104.12763, section 4.2.3 and appendix D; the scores are those of GQA (arXiv 1902.09506,
    section 4.4) and CLEVR (arXiv 1612.06890).
    """

    def __init__(self) -> None:
        self._correct = GroupedRows(columns=1)  # whether the answer is correct, by type
        self._choices = GroupedRows(columns=1)  # whether it is valid, and plausible
        self._correct_by_record = RecordRows(columns=1)  # of questions that entail others
        self._entailed = RecordRows(columns=1, dtype=np.int64)  # keys of the entailed questions
        self._answers = RecordRows(columns=3, dtype=np.int64)  # hashes of group, true and predicted answer

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score a batch.

        Args:
            predictions: Predictions for B texts.
            records: The B records of these texts, in order.

        Returns:
            For each question, whether its answer is correct; NaN where the true one is unknown.

        Raises:
            InvalidInputError: The model predicts no answers.
        """
        example_scores = []
        for prediction, record in paired(predictions, records):
            if record.answer is None and not protocol_fields(record).is_question:
                continue
            answer = prediction.answer
            if answer is None:
                raise InvalidInputError(
                    "Expected a model that predicts answers, got one without; "
                    "choose a model trained for question answering."
                )
            score = math.nan
            if record.answer is not None:
                self.score_answer(record, answer)
                score = float(answer == record.answer)
            example_scores.append(ExampleScore(record, score, answer=answer))
        return example_scores

    def score_answer(self, record: Record, answer: str) -> None:
        """Score the answer to one question.

        Args:
            record: The question, with its true answer.
            answer: The predicted answer.
        """
        # Count it among all questions and those of its types
        fields = protocol_fields(record)
        correct = np.array([[answer == record.answer]], dtype=np.float32)
        kinds = [ALL, f"answer_type={record.answer_type}"]
        if fields.question_type:
            kinds.append(f"question_type={fields.question_type}")
        if fields.structural:
            kinds.append(f"structural={fields.structural}")
        for kind in kinds:
            self._correct.add(kind, record, correct)

        # Compare it with the answers that are possible
        for name, choices in (("validity", fields.valid), ("plausibility", fields.plausible)):
            if choices is not None:
                self._choices.add(name, record, np.array([[answer in choices]], dtype=np.float32))

        # Keep the questions that it entails; GQA lists a question among its own
        if fields.entailed is not None:
            self._correct_by_record.add(record, correct)
            others = [id for id in fields.entailed if id != record.id]
            keys = [record_key(record.source, record.split, id) for id in others]
            self._entailed.add(record, np.array(keys, dtype=np.int64)[:, None])

        # Count the answers of its group
        if fields.group:
            true_hash = hash_of(f"{fields.group}\0{record.answer}")
            predicted_hash = hash_of(f"{fields.group}\0{answer}")
            row = np.array([[hash_of(fields.group), true_hash, predicted_hash]], dtype=np.int64)
            self._answers.add(record, row)

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            accuracy, and accuracy/KIND=NAME for each type of answer and of question; num_questions, the
            number of questions; GQA's other scores where records have its annotations. Empty where no
            question was scored.
        """
        # Accuracy
        scores: dict[str, float] = {}
        for kind, rows in self._correct.merged().items():
            if not len(rows):
                continue
            scores["accuracy" if kind == ALL else f"accuracy/{kind}"] = float(rows.mean())
            if kind == ALL:
                scores["num_questions"] = float(len(rows))

        # GQA's other scores
        for name, rows in self._choices.merged().items():
            if len(rows):
                scores[name] = float(rows.mean())
        keys, correct = self._correct_by_record.merged()
        entailing, entailed = self._entailed.merged()
        consistency = _consistency(keys, correct[:, 0], entailing, entailed[:, 0])
        if consistency is not None:
            scores["consistency"] = consistency
        _, answers = self._answers.merged()
        if len(answers):
            scores["distribution"] = _distribution(answers)
        return scores


def _consistency(
    keys: NDArray[np.int64],
    correct: NDArray[np.float32],
    entailing: NDArray[np.int64],
    entailed: NDArray[np.int64],
) -> float | None:
    """Mean, over correctly answered questions, of the fraction of correct answers to what they entail.

    Args:
        keys: (n,) questions.
        correct: (n,) 1 where the answer is correct, 0 elsewhere.
        entailing: (m,) questions that entail another.
        entailed: (m,) these other questions.

    Returns:
        The mean; None where no correctly answered question entails a question that was answered.
    """
    is_correct = dict(zip(keys.tolist(), correct.tolist(), strict=True))
    answers: dict[int, list[float]] = {}
    for key, other in zip(entailing.tolist(), entailed.tolist(), strict=True):
        if is_correct[key] and other in is_correct:
            answers.setdefault(key, []).append(is_correct[other])
    return float(np.mean([np.mean(values) for values in answers.values()])) if answers else None


def _distribution(answers: NDArray[np.int64]) -> float:
    """Chi-square of predicted answers, averaged over groups by size; rows are group, true, predicted."""
    groups, sizes = np.unique(answers[:, 0], return_counts=True)
    total = 0.0
    for group, size in zip(groups, sizes, strict=True):
        of_group = answers[answers[:, 0] == group]
        true, expected = np.unique(of_group[:, 1], return_counts=True)
        observed = np.array([(of_group[:, 2] == answer).sum() for answer in true])
        total += float(((observed - expected) ** 2 / expected).sum()) * size
    return total / len(answers)
