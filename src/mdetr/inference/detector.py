"""`Detector`: what inference needs of a model, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from mdetr.export.model import ExportedModel
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.predictions import Predictions
from mdetr.model.tensors import Tensor, import_torch

if TYPE_CHECKING:
    import torch

    from mdetr.model.config import MdetrConfig


class Detector(Protocol):
    """A model that encodes images and texts separately and then fuses them.

    `MdetrForObjectDetection` is one, on tensors; an `ExportedModel` is another, on arrays and without torch.
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
    def device(self) -> torch.device | str:
        """The device that the model takes its inputs on."""
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

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> Predictions:
        """Predict for pairs of image and text; see `MdetrForObjectDetection.fuse`."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Predictions:
        """Encode and fuse; see `MdetrForObjectDetection.forward`."""
        ...


def model_inputs(model: Detector, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Convert arrays to what a model takes: tensors on its device, or for an exported model arrays.

    Args:
        model: The model.
        arrays: Name -> array of each input.

    Returns:
        Name -> tensor or array.
    """
    if isinstance(model, ExportedModel):
        return dict(arrays)
    torch = import_torch()
    return {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}


def inference_mode(model: Detector) -> AbstractContextManager[object]:
    """Switch off gradients while a model of torch runs; an exported model has none."""
    if isinstance(model, ExportedModel):
        return nullcontext()
    mode: AbstractContextManager[object] = import_torch().inference_mode()
    return mode


def config_fields(model: Detector) -> Mapping[str, Any]:
    """Fields of a model's configuration; those of an exported one as its file has them."""
    return model.config_fields if isinstance(model, ExportedModel) else model.config.to_dict()
