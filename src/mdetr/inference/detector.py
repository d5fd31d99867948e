"""`Detector`: what inference needs of a model, whatever runs it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.model.mdetr import ImageFeatures, TextFeatures


class Detector(Protocol):
    """A model that encodes images and texts separately and then fuses them.

    `MdetrForObjectDetection` is one; the exported models of `mdetr.export` are others.
    """

    @property
    def config(self) -> MdetrConfig:
        """The configuration of the model."""
        ...

    @property
    def name_or_path(self) -> str | None:
        """The name or the folder that the model was loaded by."""
        ...

    @property
    def device(self) -> torch.device:
        """The device that the model takes its inputs on."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The number type of its features."""
        ...

    def num_parameters(self) -> int:
        """The number of its parameters."""
        ...

    def encode_image(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """Encode images; see `MdetrPreTrainedModel.encode_image`."""
        ...

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextFeatures:
        """Encode texts; see `MdetrPreTrainedModel.encode_text`."""
        ...

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> MdetrOutput:
        """Predict for pairs of image and text; see `MdetrForObjectDetection.fuse`."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> MdetrOutput:
        """Encode and fuse; see `MdetrForObjectDetection.forward`."""
        ...
