"""`Predictions`: what post-processing reads of a model's output, whatever the model runs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float

from mdetr.model.tensors import Tensor


@runtime_checkable
class Predictions(Protocol):
    """Predictions of Q queries for each of B texts; see `MdetrOutput` for the fields.

    `MdetrOutput` has them as tensors, and the output of an exported model as arrays.
    """

    @property
    def logits(self) -> Float[Tensor, "batch queries positions"] | None:
        """(B, Q, 256) over token positions; the last position is "no object"."""
        ...

    @property
    def pred_boxes(self) -> Float[Tensor, "batch queries 4"] | None:
        """(B, Q, 4), center x, center y, width, height, relative to each unpadded image."""
        ...

    @property
    def referred_logits(self) -> Float[Tensor, "batch queries"] | None:
        """(B, Q), whether the text as a whole refers to the box."""
        ...

    @property
    def answer_logits(self) -> Mapping[str, Float[Tensor, "batch _"]] | None:
        """Name of each answer head -> (B, n)."""
        ...

    @property
    def pred_masks(self) -> Float[Tensor, "batch queries mask_height mask_width"] | None:
        """(B, Q, h, w) logits."""
        ...
