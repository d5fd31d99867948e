"""Decoder queries: content, positions and reference boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped
from torch import Tensor, nn

from mdetr.model.config import MdetrConfig
from mdetr.model.heads import MLP, BoxHead, make_token_head
from mdetr.model.interface import MdetrOutput, Targets
from mdetr.model.position import box_encoding, grid_coordinates

START_SIZE = 0.1  # initial width and height of a proposal, relative to the image
NO_OBJECT_LOGIT = 1e4  # of proposals on padding
LITTLE_NOISE = 0.4  # largest change of a box to restore, relative to half of its size


class Queries(NamedTuple):
    """Content (B, Q, C), and learned positions (B, Q, C) or reference boxes (B, Q, 4) to encode.

    The queries form `num_groups` groups of equal size, one after the other, which do not see each other.
    """

    content: Float[Tensor, "batch queries hidden"]
    positions: Float[Tensor, "batch queries hidden"] | None
    references: Float32[Tensor, "batch queries 4"] | None
    num_groups: int = 1


def query_mask(parts: Sequence[Queries], num_answers: int) -> Bool[Tensor, "queries queries"] | None:
    """Which queries must not attend to which, since each group attends to itself only.

    Args:
        parts: The model's queries, and extra ones of the training.
        num_answers: Number of queries for answers, which come last and belong to the first group.

    Returns:
        (Q, Q) bool, true where the query of the row must not attend to that of the column; None if there is
        a single group.
    """
    if len(parts) == 1:
        return None
    sizes = [part.content.shape[1] // part.num_groups for part in parts for _ in range(part.num_groups)]
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)] + [0] * num_answers
    group = torch.tensor(numbers, device=parts[0].content.device)
    return group[:, None] != group


class LearnedQueries(nn.Module):
    """Queries as in the paper: learned positions, and content that starts at zero."""

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.num_queries, config.hidden_size)

    def forward(
        self, image_memory: Float[Tensor, "batch cells hidden"], proposals: MdetrOutput | None
    ) -> list[Queries]:
        positions = self.positions.weight.to(image_memory.dtype).expand(image_memory.shape[0], -1, -1)
        return [Queries(torch.zeros_like(positions), positions, None)]

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
        self.num_queries = config.num_queries
        count = config.num_queries + config.one_to_many_queries
        self.content = nn.Embedding(count, size)
        self.from_memory: nn.Linear | None = None
        if not config.proposals:
            self.references = nn.Embedding(count, 4)
        elif config.proposal_content == "memory":
            self.from_memory = nn.Linear(size, size)
        self.position = MLP(2 * size, size, size, num_layers=2)
        self.hidden_size = size

    def forward(
        self, image_memory: Float[Tensor, "batch cells hidden"], proposals: MdetrOutput | None
    ) -> list[Queries]:
        """Queries from image_memory (B, P, C) and its P proposals, or from learned boxes without them.

        In training, extra queries for one-to-many matching follow, if configured.
        """
        queries = self._make(image_memory, proposals)
        if queries.content.shape[1] <= self.num_queries:
            return [queries]
        main, extra = slice(self.num_queries), slice(self.num_queries, None)
        return [
            Queries(queries.content[:, part], None, cast(Tensor, queries.references)[:, part])
            for part in (main, extra)
        ]

    def _make(
        self, image_memory: Float[Tensor, "batch cells hidden"], proposals: MdetrOutput | None
    ) -> Queries:
        count = self.content.num_embeddings if self.training else self.num_queries
        learned = self.content.weight[:count].to(image_memory.dtype).expand(image_memory.shape[0], -1, -1)

        # Learned content and boxes, the same for all images
        if proposals is None:
            references = self.references.weight[:count].float().sigmoid()
            return Queries(learned, None, references.expand(image_memory.shape[0], -1, -1))

        # The proposals with the highest scores; half precision would give many of them the same
        assert proposals.logits is not None and proposals.pred_boxes is not None
        logits = proposals.logits.float()
        objectness = logits[..., :-1].logsumexp(-1) - logits[..., -1]
        best = objectness.topk(min(count, objectness.shape[1]), dim=1).indices  # (B, Q)
        references = _take(proposals.pred_boxes, best).detach()
        content = learned[:, : best.shape[1]]
        if self.from_memory is not None:
            content = self.from_memory(_take(image_memory, best)) + content
        return Queries(content, None, references)

    def encode(self, references: Float32[Tensor, "batch queries 4"]) -> Float[Tensor, "batch queries hidden"]:
        """Positions (B, Q, C) of reference boxes (B, Q, 4)."""
        encoding = box_encoding(references, self.hidden_size)
        return self.position(encoding.to(self.content.weight.dtype))


class DenoisingQueries(nn.Module):
    """Extra queries of the training, which start from the boxes of the text with noise.

    Each group has every box twice: with little noise, to restore it and its words, and with so much that the
    query is to predict "no object". All have the same content, so they learn the words from the image.

    Source: arXiv 2203.01305, 2203.03605. Not in the MDETR paper.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.content = nn.Embedding(1, config.hidden_size)
        self.groups = config.denoising_groups

    def forward(self, targets: Targets) -> Queries:
        """Queries of B texts with up to N boxes each.

        Args:
            targets: Targets of the texts.

        Returns:
            Queries with content (B, groups * 2 * N, C) and references likewise: in each group first all boxes
            with little noise, then all with much.
        """
        # Move the center by at most LITTLE_NOISE, or by 1 to 2 halves of the size; resize a little
        boxes = targets["boxes"].float()[:, None, None]  # (B, 1, 1, N, 4)
        center, size = boxes[..., :2], boxes[..., 2:]
        shape = (len(boxes), self.groups, 2, boxes.shape[-2], 2)
        shift, resize = (torch.rand(shape, device=boxes.device) * 2 - 1 for _ in range(2))
        shift = torch.stack((shift[:, :, 0] * LITTLE_NOISE, shift[:, :, 1] + shift[:, :, 1].sign()), dim=2)
        center = center + shift * size / 2
        size = size * (1 + resize * LITTLE_NOISE)
        references = torch.cat((center, size), dim=-1).clamp(0, 1).flatten(1, 3)

        content = self.content.weight.expand(*references.shape[:2], -1)
        return Queries(content, None, references, self.groups)


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
