"""Token and box heads of the decoder's queries."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from mdetr.model.config import MdetrConfig

ABSENT_TOKEN_LOGIT = -1e4  # a token position that the text does not have; finite, so that 0 * log p stays 0


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size] * (num_layers - 1), output_size]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, hidden: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        for layer in self.layers[:-1]:
            hidden = F.relu(layer(hidden))
        return self.layers[-1](hidden)


class PositionTokenHead(nn.Module):
    """Soft tokens as published: a linear layer onto absolute token positions, "no object" last.

    Source: arXiv 2104.12763, section 2.2.2.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.num_token_positions)

    def forward(
        self,
        queries: Float[Tensor, "batch queries hidden"],
        text_memory: Float[Tensor, "batch tokens hidden"],
        text_padding: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch queries positions"]:
        """queries (B, Q, C) -> (B, Q, positions); the text is in the queries already."""
        return self.linear(queries)


class DotProductTokenHead(nn.Module):
    """Soft tokens by similarity: a query's logit for a token is the scaled dot product of the two."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.token = nn.Linear(config.hidden_size, config.hidden_size)
        self.no_object = nn.Linear(config.hidden_size, 1)
        self.num_positions = config.num_token_positions

    def forward(
        self,
        queries: Float[Tensor, "batch queries hidden"],
        text_memory: Float[Tensor, "batch tokens hidden"],
        text_padding: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch queries positions"]:
        """queries (B, Q, C), text_memory (B, L, C), text_padding (B, L) -> (B, Q, positions)."""
        tokens = self.token(text_memory)[:, : self.num_positions - 1]
        padding = text_padding[:, None, : self.num_positions - 1]
        # Scaled before the product, which float16 could not hold otherwise.
        similarity = (self.query(queries) * queries.shape[-1] ** -0.5) @ tokens.transpose(1, 2)
        similarity = similarity.masked_fill(padding, ABSENT_TOKEN_LOGIT)
        absent = self.num_positions - 1 - similarity.shape[-1]
        similarity = F.pad(similarity, (0, absent), value=ABSENT_TOKEN_LOGIT)
        return torch.cat((similarity, self.no_object(queries)), dim=-1)


def make_token_head(config: MdetrConfig) -> PositionTokenHead | DotProductTokenHead:
    """The soft token head that the configuration names."""
    return DotProductTokenHead(config) if config.token_head == "dot_product" else PositionTokenHead(config)


class BoxHead(MLP):
    """Boxes: a three-layer perceptron whose sigmoid is center x, center y, width, height."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config.hidden_size, config.hidden_size, 4, num_layers=3)

    def forward(
        self, queries: Float[Tensor, "*batch hidden"], references: Float32[Tensor, "*batch 4"] | None = None
    ) -> Float32[Tensor, "*batch 4"]:
        """queries (..., C) -> boxes (..., 4) float32; `references` (..., 4) are boxes to be moved."""
        boxes = super().forward(queries).float()
        return (boxes if references is None else boxes + torch.logit(references, eps=1e-5)).sigmoid()
