"""Fingerprints of models, which tell whether features that were encoded before fit a model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from mdetr.export.model import ExportedModel
from mdetr.inference.detector import Detector

if TYPE_CHECKING:
    from torch import Tensor, nn

_VALUES = 64  # of each tensor; training changes nearly all values of a tensor, so a few suffice
_KNOWN: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def fingerprint(model: Detector) -> str:
    """Return a text that is the same for copies of a model, also in other processes, and differs for others.

    A model of torch has one from the configuration, number type and some values of each weight, which are
    read when it first encodes an image; training it afterwards does not change the fingerprint.

    Args:
        model: The model.

    Returns:
        Hexadecimal digits.
    """
    if isinstance(model, ExportedModel):
        return model.info.fingerprint
    module = cast("nn.Module", model)
    if module not in _KNOWN:
        digest = hashlib.sha256(repr(sorted(model.config.to_dict().items(), key=str)).encode())
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(_some_values(tensor))
        _KNOWN[module] = digest.hexdigest()
    return _KNOWN[module]


def _some_values(tensor: Tensor) -> bytes:
    """The bytes of a tensor's values at even distances."""
    import torch

    values = tensor.detach().flatten()
    some = values[:: max(1, len(values) // _VALUES)].contiguous().cpu()
    return some.view(torch.uint8).numpy().tobytes()
