"""Losses and accuracies of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mdetr.model.answers import BINARY, TYPE, UNIFIED


def answer_losses(
    logits: Mapping[str, Float[Tensor, "batch _"]],
    types: Sequence[str],
    answer_type: Int[Tensor, "batch"],
    answer: Int[Tensor, "batch"],
) -> dict[str, Float[Tensor, ""]]:
    """Average the cross-entropy of the answers, and of their types, over the texts that have an answer.

    Each type's head learns from the questions of its type alone: their sum over their count, at least 1.

    Args:
        logits: name -> (B, n) float32.
        types: the types in the order of their ids; empty where one head, "answer", gives all answers.
        answer_type: (B,) int64, -1 for texts without an answer.
        answer: (B,) int64, the id of the answer within its type, -1 for texts without one.

    Returns:
        Scalars `loss_answer_*`, and without gradient `accuracy_answer_*`, which is 1 where nothing was asked;
        `accuracy_answer_total` is the share of questions with the right type and the right answer.

    Source: arXiv 2104.12763, section 4.2.3.
    """
    asked = answer >= 0
    if not types:
        loss, right = _score(UNIFIED, logits[UNIFIED], answer, asked)
        return {"loss_answer_total": loss, "accuracy_answer_total": _accuracy(right, asked)}
    loss, right_type = _score(TYPE, logits[TYPE], answer_type, asked)
    found = {"loss_answer_type": loss, "accuracy_answer_type": _accuracy(right_type, asked)}
    right = torch.zeros_like(right_type)
    for place, name in enumerate(types):
        of_type = asked & (answer_type == place)
        loss, right_here = _score(name, logits[name], answer, of_type)
        found |= {f"loss_answer_{name}": loss, f"accuracy_answer_{name}": _accuracy(right_here, of_type)}
        right = right | (right_here & right_type)
    return found | {"accuracy_answer_total": _accuracy(right, asked)}


def _score(
    name: str,
    logits: Float[Tensor, "batch answers"],
    target: Int[Tensor, "batch"],
    counted: Bool[Tensor, "batch"],
) -> tuple[Float[Tensor, ""], Bool[Tensor, "batch"]]:
    """The mean loss over the texts that count, and which of them are right (B,)."""
    safe = torch.where(counted, target, 0)
    if name == BINARY:
        terms = F.binary_cross_entropy_with_logits(logits[:, 0], safe.to(logits.dtype), reduction="none")
        predicted = (logits[:, 0] > 0).long()
    else:
        terms = F.cross_entropy(logits, safe, reduction="none")
        predicted = logits.argmax(-1)
    loss = torch.where(counted, terms, 0.0).sum() / counted.sum().clamp(min=1)
    return loss, (predicted == target) & counted


@torch.no_grad()
def _accuracy(right: Bool[Tensor, "batch"], counted: Bool[Tensor, "batch"]) -> Float[Tensor, ""]:
    count = counted.sum()
    return torch.where(count > 0, right.sum() / count.clamp(min=1), 1.0)
