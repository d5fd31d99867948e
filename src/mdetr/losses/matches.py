"""Matched pairs of queries and target boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Matches:
    """M pairs of a query and a target box, sorted by layer, then text, then query.

    layer, text, query, target: (M,) int64 each. Pair m ties query `query[m]` of layer `layer[m]` to the box
    `target[m]` of text `text[m]`: `logits[layer, text, query]` are the matched predictions,
    `boxes[text, target]` their boxes.
    """

    layer: Int[Tensor, "matches"]
    text: Int[Tensor, "matches"]
    query: Int[Tensor, "matches"]
    target: Int[Tensor, "matches"]

    @classmethod
    def of_denoising(cls, box_mask: Bool[Tensor, "batch boxes"], num_layers: int, groups: int) -> Matches:
        """Pairs of denoising queries and the boxes from which they start with little noise.

        Args:
            box_mask: (B, N) bool, true where there is a box.
            num_layers: Number of decoder layers.
            groups: Number of groups of queries; each has N with little noise, then N with much.

        Returns:
            The pairs, in every layer the same.
        """
        num_boxes = box_mask.shape[1]
        pairs = box_mask[None, :, None].expand(num_layers, -1, groups, -1)
        layer, text, group, target = pairs.nonzero(as_tuple=True)
        return cls(layer, text, group * 2 * num_boxes + target, target)

    def sum_by_layer(
        self, values: Float[Tensor, "matches"], num_layers: int
    ) -> Float[Tensor, "{num_layers}"]:
        """Sum a value per pair within each layer, in a fixed order that makes runs repeatable.

        Args:
            values: (M,), one value per pair.
            num_layers: Number of decoder layers.

        Returns:
            (num_layers,) sums.
        """
        layers = torch.arange(num_layers, device=values.device)[:, None]
        return torch.where(self.layer == layers, values, 0.0).sum(1)
