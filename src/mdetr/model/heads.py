"""Token and box heads of the decoder's queries."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from mdetr.model.config import MdetrConfig

ABSENT_TOKEN_LOGIT = -1e4  # of positions beyond the text; finite, because 0 * log p must be 0


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
    """Soft tokens as in the paper: a linear layer onto absolute token positions, "no object" last.

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
        """Logits (B, Q, positions) of queries (B, Q, C), which have attended to the text already."""
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
        """Logits (B, Q, positions) of queries (B, Q, C) for tokens (B, L, C), padding (B, L) excluded."""
        # The last position is "no object"; longer texts lose their last tokens
        tokens = self.token(text_memory)[:, : self.num_positions - 1]
        padding = text_padding[:, None, : self.num_positions - 1]

        # Scale before the product, which float16 could not hold otherwise
        similarity = (self.query(queries) * queries.shape[-1] ** -0.5) @ tokens.transpose(1, 2)

        # Fill up to the number of positions
        similarity = similarity.masked_fill(padding, ABSENT_TOKEN_LOGIT)
        absent = self.num_positions - 1 - similarity.shape[-1]
        similarity = F.pad(similarity, (0, absent), value=ABSENT_TOKEN_LOGIT)
        return torch.cat((similarity, self.no_object(queries)), dim=-1)


def make_token_head(config: MdetrConfig) -> PositionTokenHead | DotProductTokenHead:
    """Soft token head that the configuration names."""
    if config.token_head == "dot_product":
        return DotProductTokenHead(config)
    return PositionTokenHead(config)


class BoxHead(MLP):
    """Box head: a three-layer perceptron, whose sigmoid is center x, center y, width, height."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config.hidden_size, config.hidden_size, 4, num_layers=3)

    def forward(
        self, queries: Float[Tensor, "*batch hidden"], references: Float32[Tensor, "*batch 4"] | None = None
    ) -> Float32[Tensor, "*batch 4"]:
        """Boxes (..., 4) float32 of queries (..., C), relative to `references` (..., 4) if given."""
        logits = super().forward(queries).float()
        if references is not None:
            logits = logits + torch.logit(references, eps=1e-5)
        return logits.sigmoid()
