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
    """Sum the focal loss (averaged over pixels) and the dice loss of the matched queries' masks.

    Args:
        pred_masks: (B, Q, h, w) float32 logits of one decoder layer.
        masks: (B, N, H, W) bool; predictions are brought to this size (bilinear) first.
        matches: which query answers for which box.
        layer: the decoder layer that the masks are of.

    Returns:
        Two scalars.

    Source: arXiv 2104.12763, section 4.2.2 (PhraseCut), with the losses of DETR's segmentation head.
    """
    here = matches.layer == layer
    text = matches.text[here]
    predicted = pred_masks[text, matches.query[here]][:, None]  # (M, 1, h, w)
    true = masks[text, matches.target[here]].flatten(1).to(predicted.dtype)  # (M, H * W)
    if not len(text):
        return pred_masks.sum() * 0, pred_masks.sum() * 0  # the head takes part: DDP waits for it
    logits = F.interpolate(predicted, size=masks.shape[-2:], mode="bilinear").flatten(1)
    focal = sigmoid_focal_loss(logits, true, ALPHA, GAMMA).mean(1).sum()
    chances = logits.sigmoid()
    dice = 1 - (2 * (chances * true).sum(1) + 1) / (chances.sum(1) + true.sum(1) + 1)
    return focal, dice.sum()
