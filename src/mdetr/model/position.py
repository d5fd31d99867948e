"""Sine position encodings of feature maps and of boxes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

TEMPERATURE = 10000.0
EPSILON = 1e-6


def grid_coordinates(
    padding_mask: Bool[Tensor, "images map_height map_width"],
) -> tuple[Float32[Tensor, "images map_height map_width"], Float32[Tensor, "images map_height map_width"]]:
    """Coordinates of every map position, relative to the unpadded image.

    Args:
        padding_mask: (I, h, w) bool, true on padding.

    Returns:
        y and x, each (I, h, w) float32: the far edge of the position, in (0, 1] inside the image.
    """
    inside = (~padding_mask).to(torch.float32)
    y, x = inside.cumsum(1), inside.cumsum(2)
    return y / (y[:, -1:, :] + EPSILON), x / (x[:, :, -1:] + EPSILON)


def sine_encoding(coordinate: Float[Tensor, "*batch"], size: int) -> Float32[Tensor, "*batch {size}"]:
    """Interleaved sines and cosines of growing wavelength, (..., size), of coordinates (...) in images."""
    feature = torch.arange(size, dtype=torch.float32, device=coordinate.device)
    wavelength = TEMPERATURE ** (2 * torch.div(feature, 2, rounding_mode="floor") / size)
    angle = coordinate.to(torch.float32)[..., None] * (2 * math.pi) / wavelength
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)


def grid_encoding(
    padding_mask: Bool[Tensor, "images map_height map_width"], size: int
) -> Float32[Tensor, "images map_height*map_width {size}"]:
    """DETR's encoding in two dimensions, y before x, (I, h * w, size), for a padding mask (I, h, w)."""
    y, x = grid_coordinates(padding_mask)
    return torch.cat((sine_encoding(y, size // 2), sine_encoding(x, size // 2)), dim=-1).flatten(1, 2)


def box_encoding(
    boxes_cxcywh: Float[Tensor, "batch queries 4"], size: int
) -> Float32[Tensor, "batch queries 2*{size}"]:
    """Encodings of center y, center x, height and width, (B, Q, 2 * size), of boxes (B, Q, 4)."""
    cx, cy, width, height = boxes_cxcywh.unbind(-1)
    return torch.cat([sine_encoding(value, size // 2) for value in (cy, cx, height, width)], dim=-1)
