"""Answers and masks: their losses on numbers a person can check, and what a batch without them gives."""

from __future__ import annotations

import math

import pytest
import torch

from mdetr.losses.answers import answer_losses
from mdetr.losses.masks import mask_losses
from mdetr.losses.matches import Matches

TYPES = ("binary", "attr")


def _logits(right_type: bool = True) -> dict[str, torch.Tensor]:
    """Three questions: the first asks for yes, the second for attribute 1, the third is not counted."""
    kinds = torch.tensor([[2.0, 0.0], [0.0, 2.0], [9.0, 0.0]])
    return {
        "type": kinds if right_type else kinds.flip(1),
        "binary": torch.tensor([[1.0], [-9.0], [-9.0]]),
        "attr": torch.tensor([[9.0, 0.0], [0.0, 3.0], [9.0, 0.0]]),
    }


def test_each_type_learns_from_its_own_questions() -> None:
    found = answer_losses(_logits(), TYPES, torch.tensor([0, 1, -1]), torch.tensor([1, 1, -1]))
    assert found["loss_answer_type"].item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert found["loss_answer_binary"].item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert found["loss_answer_attr"].item() == pytest.approx(math.log(1 + math.exp(-3)))
    assert all(found[f"accuracy_answer_{name}"] == 1 for name in ("type", "binary", "attr", "total"))


def test_an_answer_is_right_in_all_only_with_its_type() -> None:
    found = answer_losses(_logits(False), TYPES, torch.tensor([0, 1, -1]), torch.tensor([1, 0, -1]))
    assert found["accuracy_answer_type"] == 0
    assert found["accuracy_answer_binary"] == 1
    assert found["accuracy_answer_attr"] == 0
    assert found["accuracy_answer_total"] == 0


def test_a_batch_without_answers_costs_nothing_and_still_has_gradients() -> None:
    logits = {name: values.requires_grad_() for name, values in _logits().items()}
    none = torch.full((3,), -1)
    found = answer_losses(logits, TYPES, none, none)
    losses = [value for name, value in found.items() if name.startswith("loss")]
    assert sum(losses) == 0
    sum(losses).backward()
    assert all(values.grad is not None and not values.grad.any() for values in logits.values())


def test_one_head_for_all_answers() -> None:
    logits = {"answer": torch.tensor([[0.0, 4.0], [4.0, 0.0]])}
    found = answer_losses(logits, (), torch.tensor([0, 0]), torch.tensor([1, 1]))
    assert found["accuracy_answer_total"] == 0.5
    expected = (math.log(1 + math.exp(-4)) + math.log(1 + math.exp(4))) / 2
    assert found["loss_answer_total"].item() == pytest.approx(expected)


def _pair() -> Matches:
    return Matches(*(torch.tensor([value]) for value in (2, 0, 1, 0)))


def test_an_undecided_mask_costs_what_its_definition_says() -> None:
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    masks[..., :2] = True
    focal, dice = mask_losses(torch.zeros(1, 3, 2, 2), masks, _pair(), layer=2)
    assert focal.item() == pytest.approx((0.25 + 0.75) / 2 * 0.25 * math.log(2))
    assert dice.item() == pytest.approx(1 - (2 * 4 + 1) / (8 + 8 + 1))


def test_a_right_mask_costs_little_and_other_layers_nothing() -> None:
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    masks[..., :4] = True
    logits = torch.where(masks, 20.0, -20.0).expand(1, 3, 8, 8)
    assert all(loss.abs() < 1e-3 for loss in mask_losses(logits, masks, _pair(), layer=2))
    assert all(loss == 0 for loss in mask_losses(logits, masks, _pair(), layer=1))
