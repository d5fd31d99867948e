"""Averages of the terms of the loss, over the batches in which they count."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from mdetr.training.progress import LossParts

TYPES = ("binary", "attr", "reg")


def _targets(answer_types: list[int], referring: bool = False) -> dict[str, Tensor]:
    """Of a batch with these types of answers; -1 for a text that is no question."""
    kinds = torch.tensor(answer_types)
    return {
        "answer_type": kinds,
        "answer": kinds.clamp(max=0),
        "referred_mask": torch.tensor([referring] * len(answer_types)),
    }


def _losses(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_data_without_questions_log_no_loss_or_accuracy_of_answers(accelerator: Accelerator) -> None:
    parts = LossParts(TYPES)
    for value in (1.0, 3.0):
        parts.add(
            _losses(loss_ce=value, loss_answer_reg=0, accuracy_answer_total=1, accuracy_isfinal_0=1),
            _targets([-1, -1]),
        )
    assert parts.read(accelerator) == {"loss_ce": 2.0}


def test_answers_are_averaged_over_the_batches_with_questions_of_their_type(accelerator: Accelerator) -> None:
    parts = LossParts(TYPES)
    of_batches = [([0, -1], 0.5, 1.0, 0.5), ([-1, -1], 1.0, 1.0, 1.0), ([0, 2], 0.0, 0.25, 0.125)]
    for kinds, yes_or_no, number, total in of_batches:
        losses = _losses(
            accuracy_answer_binary=yes_or_no,
            accuracy_answer_attr=1,
            accuracy_answer_reg=number,
            accuracy_answer_total=total,
        )
        parts.add(losses, _targets(kinds))
    assert parts.read(accelerator) == {
        "accuracy_answer_binary": 0.25,
        "accuracy_answer_reg": 0.25,
        "accuracy_answer_total": 0.3125,
    }


def test_referred_objects_are_averaged_over_the_batches_with_expressions(accelerator: Accelerator) -> None:
    parts = LossParts()
    parts.add(_losses(loss_isfinal=0, loss_isfinal_0=0), _targets([-1]))
    parts.add(_losses(loss_isfinal=4, loss_isfinal_0=6), _targets([-1], referring=True))
    assert parts.read(accelerator) == {"loss_isfinal": 4.0, "loss_isfinal_0": 6.0}


def test_losses_of_a_model_with_other_targets_all_count(accelerator: Accelerator) -> None:
    parts = LossParts()
    parts.add(_losses(loss_classifier=1), {})
    parts.add(_losses(loss_classifier=2), {})
    assert parts.read(accelerator) == {"loss_classifier": 1.5}
