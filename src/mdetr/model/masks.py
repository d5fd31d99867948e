"""Mask head: one mask per query, from attention maps and finer features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdetr.model.config import MdetrConfig

NORM_GROUPS = 8


class MaskAttention(nn.Module):
    """Multi-head attention maps of each query over the image part of the joint memory."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.num_heads = config.decoder_attention_heads

    def forward(
        self,
        queries: Float[Tensor, "batch queries hidden"],
        image_memory: Float[Tensor, "batch cells hidden"],
        map_padding: Bool[Tensor, "batch map_height map_width"],
    ) -> Float[Tensor, "batch queries heads map_height map_width"]:
        """Attention (B, Q, heads, h, w) of queries (B, Q, C) over image_memory (B, h * w, C)."""
        query = self.query(queries).unflatten(-1, (self.num_heads, -1))
        key = self.key(image_memory).unflatten(-1, (self.num_heads, -1))
        scores = torch.einsum("bqnc,bpnc->bqnp", query * query.shape[-1] ** -0.5, key)
        scores = scores.masked_fill(map_padding.flatten(1)[:, None, None], float("-inf"))
        return scores.softmax(-1).unflatten(-1, map_padding.shape[-2:])


class MaskHead(nn.Module):
    """A small feature pyramid: from attention maps to masks, three doublings of the resolution.

    Args:
        config: Configuration of the model.
        fine_channels: Channels of the backbone's maps of a half, a quarter and an eighth of its stride.

    Source: DETR's head for panoptic segmentation (arXiv 2005.12872, section 4.4), used by arXiv 2104.12763,
    section 4.2.2 (PhraseCut).
    """

    def __init__(self, config: MdetrConfig, fine_channels: Sequence[int]) -> None:
        super().__init__()
        size = config.hidden_size
        first = size + cast(int, config.decoder_attention_heads)
        channels = [first, first, size // 2, size // 4, size // 8, size // 16]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.GroupNorm(gcd(NORM_GROUPS, n), n) for n in channels[1:])
        self.adapters = nn.ModuleList(
            nn.Conv2d(fine, channel, 1) for fine, channel in zip(fine_channels, channels[2:], strict=False)
        )
        self.output = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(
        self,
        features: Float[Tensor, "batch hidden map_height map_width"],
        attention: Float[Tensor, "batch queries heads map_height map_width"],
        fine_maps: Sequence[Float[Tensor, "batch _ _ _"]],
    ) -> Float[Tensor, "batch queries mask_height mask_width"]:
        """Mask logits at the resolution of the finest map.

        Args:
            features: (B, C, h, w), projected features of the images.
            attention: (B, Q, heads, h, w), attention maps of the queries.
            fine_maps: The backbone's finer maps, (B, channels, H_i, W_i) each, coarse to fine.

        Returns:
            (B, Q, H, W) logits.
        """
        # Give each query the features and its attention, as a batch of B * Q maps
        num_queries = attention.shape[1]
        repeated = features[:, None].expand(-1, num_queries, -1, -1, -1)
        hidden = torch.cat((repeated, attention.to(features.dtype)), dim=2).flatten(0, 1)

        # Convolve; the last layers each add a finer map first, at its resolution
        first_fine = len(self.convolutions) - len(fine_maps)
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            if index >= first_fine:
                fine = self.adapters[index - first_fine](fine_maps[index - first_fine])
                hidden = F.interpolate(hidden, size=fine.shape[-2:])
                hidden = (hidden.unflatten(0, (-1, num_queries)) + fine[:, None]).flatten(0, 1)
            hidden = F.relu(norm(convolution(hidden)))
        return self.output(hidden).unflatten(0, (-1, num_queries))[:, :, 0]
