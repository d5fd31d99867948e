"""Tells transformers about the package: its Auto classes load MDETR, and the model finds its loss by name."""

from __future__ import annotations

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor
from transformers.loss.loss_utils import LOSS_MAPPING

from mdetr.images import MdetrImageProcessor
from mdetr.losses import compute_loss
from mdetr.model.config import MdetrConfig
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor


def register() -> None:
    """Register configuration, model, processors and loss; doing it again changes nothing."""
    AutoConfig.register(MdetrConfig.model_type, MdetrConfig, exist_ok=True)
    AutoModel.register(MdetrConfig, MdetrModel, exist_ok=True)
    AutoImageProcessor.register(
        MdetrConfig,
        slow_image_processor_class=MdetrImageProcessor,
        fast_image_processor_class=MdetrImageProcessor,
        exist_ok=True,
    )
    AutoProcessor.register(MdetrConfig, MdetrProcessor, exist_ok=True)
    LOSS_MAPPING[MdetrModel.__name__] = compute_loss
