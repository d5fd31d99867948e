"""Decoder queries: content, positions and reference boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped
from torch import Tensor, nn

from mdetr.model.config import MdetrConfig
from mdetr.model.heads import MLP, BoxHead, make_token_head
from mdetr.model.interface import MdetrOutput
from mdetr.model.position import box_encoding, grid_coordinates

START_SIZE = 0.1  # initial width and height of a proposal, relative to the image
NO_OBJECT_LOGIT = 1e4  # of proposals on padding


class Queries(NamedTuple):
    """Content (B, Q, C), and learned positions (B, Q, C) or reference boxes (B, Q, 4) to encode."""

    content: Float[Tensor, "batch queries hidden"]
    positions: Float[Tensor, "batch queries hidden"] | None
    references: Float32[Tensor, "batch queries 4"] | None


class LearnedQueries(nn.Module):
    """Queries as in the paper: learned positions, and content that starts at zero."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.num_queries, config.hidden_size)

    def forward(
        self, image_memory: Float[Tensor, "batch cells hidden"], proposals: MdetrOutput | None
    ) -> Queries:
        positions = self.positions.weight.to(image_memory.dtype).expand(image_memory.shape[0], -1, -1)
        return Queries(torch.zeros_like(positions), positions, None)

    def encode(self, references: Float32[Tensor, "batch queries 4"]) -> Float[Tensor, "batch queries hidden"]:
        raise TypeError("Learned queries have no reference boxes to encode.")


class ReferenceQueries(nn.Module):
    """Queries that start from boxes: learned ones, or the best proposals of the joint memory.

    Source: conditional and dynamic-anchor queries (arXiv 2108.06152, 2201.12329); two-stage proposals
    (arXiv 2010.04159). Not in the MDETR paper.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.content = nn.Embedding(config.num_queries, size)
        if config.proposals:
            self.from_memory = nn.Linear(size, size)
        else:
            self.references = nn.Embedding(config.num_queries, 4)
        self.position = MLP(2 * size, size, size, num_layers=2)
        self.hidden_size = size

    def forward(
        self, image_memory: Float[Tensor, "batch cells hidden"], proposals: MdetrOutput | None
    ) -> Queries:
        """Queries from image_memory (B, P, C) and its P proposals, or from learned boxes without them."""
        # Learned content and boxes, the same for all images
        if proposals is None:
            references = self.references.weight.float().sigmoid().expand(image_memory.shape[0], -1, -1)
            content = self.content.weight.to(image_memory.dtype).expand(image_memory.shape[0], -1, -1)
            return Queries(content, None, references)

        # The proposals with the highest scores; half precision would give many of them the same
        assert proposals.logits is not None and proposals.pred_boxes is not None
        logits = proposals.logits.float()
        objectness = logits[..., :-1].logsumexp(-1) - logits[..., -1]
        best = objectness.topk(min(self.content.num_embeddings, objectness.shape[1]), dim=1).indices  # (B, Q)
        references = _take(proposals.pred_boxes, best).detach()
        content = self.from_memory(_take(image_memory, best)) + self.content.weight[: best.shape[1]]
        return Queries(content, None, references)

    def encode(self, references: Float32[Tensor, "batch queries 4"]) -> Float[Tensor, "batch queries hidden"]:
        """Positions (B, Q, C) of reference boxes (B, Q, 4)."""
        encoding = box_encoding(references, self.hidden_size)
        return self.position(encoding.to(self.content.weight.dtype))


class ProposalHead(nn.Module):
    """Head that predicts a box and its tokens at every image position of the joint memory."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.token_head = make_token_head(config)
        self.box_head = BoxHead(config)

    def forward(
        self,
        image_memory: Float[Tensor, "batch cells hidden"],
        text_memory: Float[Tensor, "batch tokens hidden"],
        text_padding: Bool[Tensor, "batch tokens"],
        map_padding: Bool[Tensor, "batch map_height map_width"],
    ) -> MdetrOutput:
        """Proposals of the image positions.

        Args:
            image_memory: (B, P, C), with P = h * w.
            text_memory: (B, L, C).
            text_padding: (B, L) bool, true on padding.
            map_padding: (B, h, w) bool, true on padding.

        Returns:
            Logits (B, P, positions) and boxes (B, P, 4); positions on padding are "no object".
        """
        logits = self.token_head(image_memory, text_memory, text_padding)
        boxes = self.box_head(image_memory, _start_boxes(map_padding))

        # Positions on padding predict no object
        no_object = torch.zeros_like(logits[0, 0])
        no_object[-1] = NO_OBJECT_LOGIT
        padding = map_padding.flatten(1)
        logits = torch.where(padding[..., None], no_object, logits)
        return MdetrOutput(logits=logits, pred_boxes=boxes, query_padding=padding)


def _start_boxes(
    map_padding: Bool[Tensor, "batch map_height map_width"],
) -> Float32[Tensor, "batch map_height*map_width 4"]:
    """Boxes of `START_SIZE` around the center of every map position, (B, h * w, 4)."""
    y, x = grid_coordinates(map_padding)
    y, x = y - y[:, :1, :] / 2, x - x[:, :, :1] / 2
    size = torch.full_like(x, START_SIZE)
    return torch.stack((x, y, size, size), dim=-1).flatten(1, 2).clamp(0, 1)


def _take(
    values: Shaped[Tensor, "batch cells features"], index: Int[Tensor, "batch queries"]
) -> Shaped[Tensor, "batch queries features"]:
    """Select positions `index` (B, Q) of `values` (B, P, n): (B, Q, n)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
