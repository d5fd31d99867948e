"""A record's masks (COCO compressed RLE) in, the same after a geometric change out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdetr.data.record import Record
from mdetr.errors import MissingDependencyError


def move_masks(record: Record, move: Callable[[Tensor], Tensor]) -> tuple[bytes, ...] | None:
    """Apply `move`, (n, H, W) uint8 -> (n, h, w) uint8, to a record's masks; None if it has none."""
    if not record.masks:
        return record.masks
    return encode_masks(move(decode_masks(record.masks, record.height, record.width)))


def decode_masks(masks: Sequence[bytes], height: int, width: int) -> Tensor:
    """COCO compressed RLE counts -> (n, height, width) uint8 of 0 and 1."""
    decoded = _rle().decode([{"size": [height, width], "counts": counts} for counts in masks])  # (H, W, n)
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1)))


def encode_masks(masks: Tensor) -> tuple[bytes, ...]:
    """(n, H, W) uint8 of 0 and 1 -> COCO compressed RLE counts."""
    encoded = _rle().encode(np.asfortranarray(masks.permute(1, 2, 0).numpy()))
    return tuple(bytes(entry["counts"]) for entry in encoded)


def _rle() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise MissingDependencyError(
            "Masks need the package faster-coco-eval; install it with `pip install 'mdetr[eval]'`."
        ) from None
    return mask
