"""Losses: the model's output and the targets in, one number to minimise and its named parts out."""

from mdetr.losses.criterion import compute_loss

__all__ = ["compute_loss"]
