"""Loss and accuracy of the head that predicts which boxes a text refers to as a whole."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mdetr.losses.matches import Matches


def referred_loss(
    referred_logits: Float32[Tensor, "layers batch queries"],
    is_referred: Float32[Tensor, "batch boxes"],
    referred_mask: Bool[Tensor, "batch"],
    matches: Matches,
) -> tuple[Float32[Tensor, "layers"], Float32[Tensor, "layers"]]:
    """Binary cross-entropy of matched queries, summed per decoder layer, and accuracy.

    Only texts that state which boxes they refer to are counted.

    Args:
        referred_logits: (D, B, Q) float32.
        is_referred: (B, N) float32, 1 for a box that the text as a whole refers to, else 0.
        referred_mask: (B,) bool, true for texts that state which boxes they refer to.
        matches: Matched pairs of queries and boxes.

    Returns:
        Loss sums (D,), and the accuracy at probability 0.5 (D,), without gradient; 1 without counted texts.

    Source: arXiv 2104.12763, the `isfinal` head for CLEVR-Ref+ (appendix).
    """
    predicted = referred_logits[matches.layer, matches.text, matches.query]  # (M,)
    target = is_referred[matches.text, matches.target]
    known = referred_mask[matches.text].float()
    terms = binary_cross_entropy_with_logits(predicted, target, reduction="none") * known
    num_layers = len(referred_logits)
    with torch.no_grad():
        correct = matches.sum_by_layer(((predicted > 0) == (target > 0.5)) * known, num_layers)
        count = matches.sum_by_layer(known, num_layers)
        accuracy = torch.where(count > 0, correct / count.clamp(min=1), 1.0)
    return matches.sum_by_layer(terms, num_layers), accuracy
