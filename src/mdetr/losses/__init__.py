"""Losses: matching, and the weighted sum of all loss terms."""

from mdetr.losses.criterion import compute_loss

__all__ = ["compute_loss"]
