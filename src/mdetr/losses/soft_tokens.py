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
    """Target distribution over token positions of the query of each box.

    Args:
        positive_map: (B, N, T) bool, the token positions of each box's phrase.
        kind: "binary" is 1 for every token of the phrase (as in the released models), "uniform" is a
            distribution over them that sums to 1 (as in the paper).

    Returns:
        (B, N, T) float32.

    Source: arXiv 2104.12763, section 2.2.2.
    """
    targets = positive_map.float()
    if kind == "uniform":
        return targets / (targets.sum(-1, keepdim=True) + 1e-6)
    return targets


def soft_token_loss(
    logits: Float32[Tensor, "layers batch queries positions"],
    targets: Float32[Tensor, "batch boxes positions"],
    matches: Matches,
    eos_coefficient: float,
    quality: Float32[Tensor, "matches"] | None = None,
) -> Float32[Tensor, "layers"]:
    """Cross-entropy between each query's tokens and those of its box's phrase, summed per decoder layer.

    The target of an unmatched query is "no object", the last position, with the weight `eos_coefficient`.

    Args:
        logits: (D, B, Q, T) float32.
        targets: (B, N, T) float32, see `token_targets`.
        matches: Matched pairs of queries and boxes.
        eos_coefficient: Weight of queries without a box.
        quality: (M,) from 0 to 1, the share of each match's target that its tokens get; "no object" gets the
            rest. All of it if None.

    Returns:
        (D,) sums.

    Source: arXiv 2104.12763, section 2.2.2; `quality` after arXiv 2008.13367.
    """
    log_probabilities = logits.log_softmax(-1)
    indices = (matches.layer, matches.text, matches.query)
    matched = -(log_probabilities[indices] * targets[matches.text, matches.target]).sum(-1)  # (M,)
    if quality is not None:
        rest = -log_probabilities[..., -1][indices]
        matched = quality * matched + (1 - quality) * rest
    no_object = -eos_coefficient * log_probabilities[..., -1]  # (D, B, Q)
    return no_object.index_put(indices, matched).sum((1, 2))


@torch.no_grad()
def cardinality_error(
    logits: Float32[Tensor, "layers batch queries positions"], box_mask: Bool[Tensor, "batch boxes"]
) -> Float32[Tensor, "layers"]:
    """Mean difference between the number of queries that predict an object and the number of boxes.

    Args:
        logits: (D, B, Q, T) float32.
        box_mask: (B, N) bool, true where there is a box.

    Returns:
        (D,) errors, without gradient.
    """
    predicted = (logits.argmax(-1) != logits.shape[-1] - 1).sum(-1)  # (D, B)
    return (predicted - box_mask.sum(-1)).abs().float().mean(-1)
