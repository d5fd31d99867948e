"""Loading of a model and its processor for inference, in torch or as it was exported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mdetr.checkpoints.finding import find_model, is_exported
from mdetr.export.model import load_exported
from mdetr.inference.detector import Detector
from mdetr.inference.devices import (
    check_export_device,
    check_request,
    choose_device,
    choose_dtype,
    log_choices,
)
from mdetr.model.tensors import import_torch
from mdetr.processing.array_processor import ArrayProcessor

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)


def load_detector(
    name: str,
    device: str | torch.device | None,
    dtype: torch.dtype | str,
    mirror: str | None,
    keep_download: bool,
) -> tuple[Detector, ArrayProcessor]:
    """Load a model on its device, and its processor.

    Args:
        name: As for `Mdetr.from_pretrained`, like all arguments.
        device: Device to run on.
        dtype: Type of the weights.
        mirror: Address of the released files.
        keep_download: Whether to keep a released file after its conversion.

    Returns:
        The model and its processor.

    Raises:
        CheckpointError: The model does not exist, cannot be downloaded, has damaged files, or is not an
            MDETR.
        InvalidInputError: This machine has no such device, or the model is an exported one, which runs on
            the CPU in the precision of its export.
        MissingDependencyError: torch is not installed, and the model is not an exported one.
    """
    check_request(device, dtype)
    folder = find_model(name, mirror, keep_download)
    if is_exported(folder):
        check_export_device(device, dtype)
        exported = load_exported(folder)
        _LOG.info("running on the CPU, %s", exported[0].description)
        return exported
    torch = import_torch()
    from mdetr.checkpoints.loading import load_folder

    target = choose_device(device)
    model, processor = load_folder(folder, name, choose_dtype(dtype, target))
    model.backbone.folds_norms = True
    # PreTrainedModel's own `to` is typed as if it took a model
    torch.nn.Module.to(model, target)
    log_choices(target, model.dtype)
    return model, processor
