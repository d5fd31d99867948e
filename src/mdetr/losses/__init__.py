"""Losses: the model's output and the targets in, one number to minimise and its named parts out."""

from transformers.loss.loss_utils import LOSS_MAPPING

from mdetr.losses.criterion import compute_loss
from mdetr.model.mdetr import MdetrModel

__all__ = ["compute_loss"]

LOSS_MAPPING[MdetrModel.__name__] = compute_loss  # where transformers looks for a model's loss
