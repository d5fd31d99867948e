"""Tensors of torch and arrays of numpy, for modules that also run where torch is not installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdetr.errors import MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any
    """In annotations: a tensor of torch, or from an exported model an array of numpy of the same shape."""


def is_tensor(value: object) -> bool:
    """Return whether a value is a tensor of torch, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_array(values: Any) -> NDArray[Any]:
    """Convert a tensor of any device to an array; an array is returned unchanged.

    Args:
        values: A tensor, an array, or what numpy makes an array of.

    Returns:
        The values in main memory; types that numpy does not know, such as bfloat16, become float32.
    """
    if not is_tensor(values):
        return np.asarray(values)
    tensor: Any = values.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
        tensor = tensor.float()
    return tensor.numpy()


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Convert logits to probabilities along the last dimension."""
    logits = logits.astype(np.float32, copy=False)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Convert each logit to a probability; very small ones stay apart, as ranking needs it."""
    return np.exp(-np.logaddexp(np.float32(0), -logits.astype(np.float32, copy=False)))


def import_torch() -> Any:
    """Import torch, which only exported models run without.

    Returns:
        The module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(
            "This needs PyTorch, which is not installed; install it with `pip install torch torchvision "
            "timm`, or use a model that `mdetr export` wrote, which runs without it."
        ) from None
    return torch
