"""Features of images and of texts, which the joint transformer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mdetr.model.tensors import Tensor, is_tensor


@dataclass(frozen=True)
class ImageFeatures:
    """Features of I images, from `encode_image`; they do not depend on any text.

    sequence: (I, h * w, C) projected features. positions: (I, h * w, C) sine encoding of their positions.
    map_padding: (I, h, w) bool, true on padding. fine_maps: Finer maps of the backbone, coarse to fine,
    if the model predicts masks.
    """

    sequence: Float[Tensor, "images cells hidden"]
    positions: Float[Tensor, "images cells hidden"]
    map_padding: Bool[Tensor, "images map_height map_width"]
    fine_maps: tuple[Float[Tensor, "images _ _ _"], ...] = ()

    def select(self, index: Int[Tensor, "batch"] | Sequence[int]) -> ImageFeatures:
        """Features of image `index[b]` for each text b; index is (B,), a list or int64."""
        return ImageFeatures(
            self.sequence[index],
            self.positions[index],
            self.map_padding[index],
            tuple(features[index] for features in self.fine_maps),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Features of the images of all parts, in order; the images of all parts have one padded shape."""
        fine_maps = zip(*(part.fine_maps for part in parts), strict=True)
        return cls(
            _concatenate([part.sequence for part in parts]),
            _concatenate([part.positions for part in parts]),
            _concatenate([part.map_padding for part in parts]),
            tuple(_concatenate(maps) for maps in fine_maps),
        )


@dataclass(frozen=True)
class TextFeatures:
    """Features of B texts, from `encode_text`; they do not depend on any image.

    sequence: (B, L, C) projected features. padding: (B, L) bool, true on padding.
    """

    sequence: Float[Tensor, "batch tokens hidden"]
    padding: Bool[Tensor, "batch tokens"]

    def select(self, index: Int[Tensor, "batch"] | Sequence[int]) -> TextFeatures:
        """Features of text `index[b]` for each pair b; index is (B,), a list or int64."""
        return TextFeatures(self.sequence[index], self.padding[index])


def _concatenate(parts: Sequence[Tensor]) -> Any:
    """Concatenate tensors of torch, or arrays of numpy, along their first dimension."""
    if is_tensor(parts[0]):
        import torch

        return torch.cat(tuple(parts))
    return np.concatenate(parts)
