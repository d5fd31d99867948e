"""Frozen norms folded into convolutions, for inference."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

_CHECK_SIZE = 64  # pixels of the square image on which a folded body is compared with its original
_MAX_DIFFERENCE = 1e-3  # of the largest feature; types of low precision have a larger one


class FoldedBody:
    """Copy of a backbone's body without its frozen norms, which is made when it is needed first.

    A frozen norm multiplies and adds constants, so the convolution before it can do that with other weights.
    The copy takes as much memory as the body, and is made again when the body's weights have changed.
    """

    def __init__(self) -> None:
        self._folded: nn.Module | None = None
        self._version: list[tuple[int, int]] | None = None

    def __call__(self, body: nn.Module, pixel_values: Tensor) -> list[Tensor]:
        """Compute the feature maps that a body gives, up to rounding.

        Args:
            body: Body of a backbone, which stays as it is.
            pixel_values: (I, 3, H, W) float.

        Returns:
            The feature maps, fine to coarse.
        """
        version = _version_of(body)
        if self._folded is None or version != self._version:
            self._folded, self._version = fold_frozen_norms(body), version
        maps: list[Tensor] = self._folded(pixel_values)
        return maps


def fold_frozen_norms(body: nn.Module) -> nn.Module:
    """Fold the frozen norms of a body into the convolutions before them.

    Which convolution is before a norm is read from the order of the modules, which is that of timm's layers.
    Where the result differs from the body, as it would with another order, nothing is folded.

    Args:
        body: Body of a backbone.

    Returns:
        A copy without frozen norms, or the body itself.
    """
    folded = copy.deepcopy(body).eval()
    for module in list(folded.modules()):
        for (_, layer), (norm_name, norm) in pairwise(list(module.named_children())):
            convolution = layer[-1] if isinstance(layer, nn.Sequential) and len(layer) else layer
            if isinstance(convolution, nn.Conv2d) and _is_frozen_norm_of(norm, convolution):
                _scale(convolution, norm)
                setattr(module, norm_name, _activation_of(norm))

    # Compare both on an image of noise, with a generator of its own
    weight = next(body.parameters())
    noise = torch.rand(1, 3, _CHECK_SIZE, _CHECK_SIZE, generator=torch.Generator().manual_seed(0))
    noise = noise.to(weight.device, weight.dtype)
    max_difference = max(_MAX_DIFFERENCE, 16 * torch.finfo(weight.dtype).eps)
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        for expected, actual in zip(body(noise), folded(noise), strict=True):
            largest = expected.abs().max()
            if not (expected - actual).abs().max() <= max_difference * largest:
                return body
    return folded


def _is_frozen_norm_of(norm: Any, convolution: nn.Conv2d) -> bool:
    return "FrozenBatchNorm" in type(norm).__name__ and len(norm.running_var) == convolution.out_channels


@torch.no_grad()
def _scale(convolution: nn.Conv2d, norm: Any) -> None:
    """Change the weights of a convolution so that it does what its norm does after it."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)


def _activation_of(norm: Any) -> nn.Module:
    """What timm's norm does besides: an activation, or nothing."""
    if not hasattr(norm, "act"):
        return nn.Identity()
    return nn.Sequential(norm.drop, norm.act)


def _version_of(body: nn.Module) -> list[tuple[int, int]]:
    """Where the weights of a body are, and how often they were changed."""
    tensors = [*body.parameters(), *body.buffers()]
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
