"""Losses and accuracies of answers to questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mdetr.model.answer_space import BINARY, TYPE, UNIFIED


def answer_losses(
    logits: Mapping[str, Float[Tensor, "batch _"]],
    types: Sequence[str],
    answer_type: Int[Tensor, "batch"],
    answer: Int[Tensor, "batch"],
) -> dict[str, Float[Tensor, ""]]:
    """Mean cross-entropy and accuracy of answers and answer types, over the texts that have an answer.

    The head of an answer type is trained on the questions of that type only.

    Args:
        logits: Name -> (B, n) float32.
        types: Answer types in the order of their ids; empty if one head, "answer", gives all answers.
        answer_type: (B,) int64, the id of the type, -1 for texts without an answer.
        answer: (B,) int64, the id of the answer within its type, -1 for texts without an answer.

    Returns:
        Scalars `loss_answer_*`, and without gradient `accuracy_answer_*`, which is 1 without questions.
        `accuracy_answer_total` is the fraction of questions with the correct type and the correct answer.

    Source: arXiv 2104.12763, section 4.2.3.
    """
    has_answer = answer >= 0

    # One head for all answers
    if not types:
        loss, correct = _classification_loss(UNIFIED, logits[UNIFIED], answer, has_answer)
        return {"loss_answer_total": loss, "accuracy_answer_total": _accuracy(correct, has_answer)}

    # The answer's type
    loss, correct_type = _classification_loss(TYPE, logits[TYPE], answer_type, has_answer)
    losses = {"loss_answer_type": loss, "accuracy_answer_type": _accuracy(correct_type, has_answer)}

    # The answer within its type; correct only if the type is
    correct = torch.zeros_like(correct_type)
    for type_id, name in enumerate(types):
        of_type = has_answer & (answer_type == type_id)
        loss, correct_answer = _classification_loss(name, logits[name], answer, of_type)
        losses[f"loss_answer_{name}"] = loss
        losses[f"accuracy_answer_{name}"] = _accuracy(correct_answer, of_type)
        correct = correct | (correct_answer & correct_type)
    losses["accuracy_answer_total"] = _accuracy(correct, has_answer)
    return losses


def _classification_loss(
    name: str,
    logits: Float[Tensor, "batch answers"],
    target: Int[Tensor, "batch"],
    counted: Bool[Tensor, "batch"],
) -> tuple[Float[Tensor, ""], Bool[Tensor, "batch"]]:
    """Mean loss over the counted texts, and which of them are predicted correctly, (B,)."""
    # Targets of -1 would index out of range; their terms are dropped below
    valid_target = torch.where(counted, target, 0)
    if name == BINARY:
        terms = F.binary_cross_entropy_with_logits(
            logits[:, 0], valid_target.to(logits.dtype), reduction="none"
        )
        predicted = (logits[:, 0] > 0).long()
    else:
        terms = F.cross_entropy(logits, valid_target, reduction="none")
        predicted = logits.argmax(-1)
    loss = torch.where(counted, terms, 0.0).sum() / counted.sum().clamp(min=1)
    return loss, (predicted == target) & counted


@torch.no_grad()
def _accuracy(correct: Bool[Tensor, "batch"], counted: Bool[Tensor, "batch"]) -> Float[Tensor, ""]:
    count = counted.sum()
    return torch.where(count > 0, correct.sum() / count.clamp(min=1), 1.0)
