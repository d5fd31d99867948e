"""A record's masks (COCO compressed RLE) in, the same after a geometric change out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mdetr.data.record import Record
from mdetr.rle import decode_masks, encode_masks


def move_masks(record: Record, move: Callable[[Tensor], Tensor]) -> tuple[bytes, ...] | None:
    """Apply `move`, (n, H, W) uint8 -> (n, h, w) uint8, to a record's masks; None if it has none."""
    if not record.masks:
        return record.masks
    return encode_masks(move(decode_masks(record.masks, record.height, record.width)))
