"""Frozen norms folded into convolutions, which is faster."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_CHECK_SIZE = 64  # pixels of the square image on which a folded body is compared with its original
_MAX_DIFFERENCE = 1e-3  # of the largest feature; types of low precision have a larger one


class FoldedBody:
    """Runs a backbone's body without its frozen norms.

    A frozen norm multiplies and adds constants, so the convolution before it can do that with other weights.
    For inference, a copy of the body has these weights; it takes as much memory as the body, and is made
    again when the body's weights have changed. In training, they are computed in every step, and the
    gradients are those of the body's own weights.
    """

    def __init__(self) -> None:
        self._folded: nn.Module | None = None
        self._version: list[tuple[int, int]] | None = None
        self._skeleton: nn.Module | None = None

    def infer(self, body: nn.Module, pixel_values: Tensor) -> list[Tensor]:
        """Compute the feature maps that a body gives, up to rounding, without gradients.

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

    def train(self, body: nn.Module, pixel_values: Tensor) -> list[Tensor]:
        """Compute the feature maps that a body gives, up to rounding, with gradients for its weights.

        Args:
            body: Body of a backbone.
            pixel_values: (I, 3, H, W) float.

        Returns:
            The feature maps, fine to coarse.
        """
        # Make the layers once; where folding is not possible, they are those of the body
        if self._skeleton is None:
            folded = fold_frozen_norms(body)
            self._skeleton = body if folded is body else folded.to("meta")
        if self._skeleton is body:
            own_maps: list[Tensor] = body(pixel_values)
            return own_maps

        weights = dict(body.named_parameters()) | dict(body.named_buffers())
        for pair in _foldable_pairs(body):
            weights[f"{pair.name}.weight"], weights[f"{pair.name}.bias"] = _folded_weights(
                pair.convolution, pair.norm
            )
        self._skeleton.train(body.training)
        maps: list[Tensor] = functional_call(self._skeleton, weights, (pixel_values,))
        return maps


@dataclass(frozen=True)
class _Pair:
    """A convolution with its name in the body, and the frozen norm after it."""

    name: str
    convolution: nn.Conv2d
    parent: nn.Module
    norm_name: str
    norm: Any


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
    with torch.no_grad():
        for pair in list(_foldable_pairs(folded)):
            weight, bias = _folded_weights(pair.convolution, pair.norm)
            pair.convolution.weight = nn.Parameter(weight, requires_grad=False)
            pair.convolution.bias = nn.Parameter(bias, requires_grad=False)
            setattr(pair.parent, pair.norm_name, _activation_of(pair.norm))

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


def _foldable_pairs(body: nn.Module) -> Iterator[_Pair]:
    """Find the convolutions that a frozen norm follows."""
    for parent_name, parent in body.named_modules():
        for (name, layer), (norm_name, norm) in pairwise(list(parent.named_children())):
            # timm's layers may have the convolution at the end of several
            path = [part for part in (parent_name, name) if part]
            if isinstance(layer, nn.Sequential) and len(layer):
                path.append(str(len(layer) - 1))
                layer = layer[-1]
            if isinstance(layer, nn.Conv2d) and _is_frozen_norm_of(norm, layer):
                yield _Pair(".".join(path), layer, parent, norm_name, norm)


def _is_frozen_norm_of(norm: Any, convolution: nn.Conv2d) -> bool:
    return "FrozenBatchNorm" in type(norm).__name__ and len(norm.running_var) == convolution.out_channels


def _folded_weights(convolution: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias with which a convolution does what its norm does after it."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
    return convolution.weight * scale[:, None, None, None], bias


def _activation_of(norm: Any) -> nn.Module:
    """What timm's norm does besides: an activation, or nothing."""
    if not hasattr(norm, "act"):
        return nn.Identity()
    return nn.Sequential(norm.drop, norm.act)


def _version_of(body: nn.Module) -> list[tuple[int, int]]:
    """Where the weights of a body are, and how often they were changed."""
    tensors = [*body.parameters(), *body.buffers()]
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
