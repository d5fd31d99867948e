"""Focal and dice losses of matched masks."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from mdetr.losses.matches import Matches

ALPHA, GAMMA = 0.25, 2.0


def mask_losses(
    pred_masks: Float[Tensor, "batch queries mask_height mask_width"],
    masks: Bool[Tensor, "batch boxes height width"],
    matches: Matches,
    layer: int,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Focal loss, averaged over pixels, and dice loss of matched masks, each summed over the matches.

    Args:
        pred_masks: (B, Q, h, w) float32 logits of one decoder layer.
        masks: (B, N, H, W) bool; predictions are resized to this size (bilinear).
        matches: Matched pairs of queries and boxes.
        layer: The decoder layer that predicted the masks.

    Returns:
        Focal loss and dice loss, scalars.

    Source: arXiv 2104.12763, section 4.2.2 (PhraseCut), with the losses of DETR's segmentation head.
    """
    # Select the matched masks of this layer
    of_layer = matches.layer == layer
    text = matches.text[of_layer]
    predicted = pred_masks[text, matches.query[of_layer]][:, None]  # (M, 1, h, w)
    target = masks[text, matches.target[of_layer]].flatten(1).to(predicted.dtype)  # (M, H * W)

    # Without matches the head still needs a gradient, for which DDP waits
    if not len(text):
        return pred_masks.sum() * 0, pred_masks.sum() * 0

    # Compute both losses at the resolution of the targets
    logits = F.interpolate(predicted, size=masks.shape[-2:], mode="bilinear").flatten(1)
    focal = sigmoid_focal_loss(logits, target, ALPHA, GAMMA).mean(1).sum()
    probabilities = logits.sigmoid()
    dice = 1 - (2 * (probabilities * target).sum(1) + 1) / (probabilities.sum(1) + target.sum(1) + 1)
    return focal, dice.sum()
