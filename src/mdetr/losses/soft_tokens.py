"""Soft token loss and cardinality error."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from mdetr.losses.matches import Matches

TokenTargets = Literal["binary", "uniform"]


def token_targets(
    positive_map: Bool[Tensor, "batch boxes positions"], kind: TokenTargets
) -> Float32[Tensor, "batch boxes positions"]:
    """Turn the token positions of each box into what its query should say.

    Args:
        positive_map: (B, N, T) bool, the token positions of each box's phrase.
        kind: "binary" gives 1 to every token of the phrase (what the published models learnt from), "uniform"
            shares 1 out among them (what the paper's text says).

    Returns:
        (B, N, T) float32.

    Source: arXiv 2104.12763, section 2.2.2.
    """
    targets = positive_map.float()
    return targets / (targets.sum(-1, keepdim=True) + 1e-6) if kind == "uniform" else targets


def soft_token_loss(
    logits: Float32[Tensor, "layers batch queries positions"],
    targets: Float32[Tensor, "batch boxes positions"],
    matches: Matches,
    eos_coefficient: float,
) -> Float32[Tensor, "layers"]:
    """Sum, per decoder layer, the cross-entropy of each query's tokens with those of its box's phrase.

    A query without a box should say "no object", the last position; its term is weighed by `eos_coefficient`.

    Args:
        logits: (D, B, Q, T) float32.
        targets: (B, N, T) float32, see `token_targets`.
        matches: which query answers for which box.
        eos_coefficient: the weight of queries without a box.

    Returns:
        (D,) sums.

    Source: arXiv 2104.12763, section 2.2.2.
    """
    log_probabilities = logits.log_softmax(-1)
    indices = (matches.layer, matches.text, matches.query)
    matched = -(log_probabilities[indices] * targets[matches.text, matches.target]).sum(-1)  # (M,)
    no_object = -eos_coefficient * log_probabilities[..., -1]  # (D, B, Q)
    return no_object.index_put(indices, matched).sum((1, 2))


@torch.no_grad()
def cardinality_error(
    logits: Float32[Tensor, "layers batch queries positions"], box_mask: Bool[Tensor, "batch boxes"]
) -> Float32[Tensor, "layers"]:
    """Count by how many the queries that predict an object differ from the boxes, on average over the texts.

    Args:
        logits: (D, B, Q, T) float32.
        box_mask: (B, N) bool, true where there is a box.

    Returns:
        (D,) errors, without gradient.
    """
    found = (logits.argmax(-1) != logits.shape[-1] - 1).sum(-1)  # (D, B)
    return (found - box_mask.sum(-1)).abs().float().mean(-1)
