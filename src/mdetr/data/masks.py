"""Geometric changes of a record's masks (COCO compressed RLE)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mdetr.data.record import Record
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks, encode_masks


def move_masks(record: Record, move: Callable[[Tensor], Tensor]) -> tuple[bytes, ...] | None:
    """Apply a geometric change to the masks of a record.

    Args:
        record: Record with n masks of height H and width W, or without masks.
        move: Change of the masks, (n, H, W) uint8 -> (n, h, w) uint8.

    Returns:
        The encoded masks after the change; None if the record has none.

    Raises:
        InvalidRecordError: A mask is damaged or of another size than its image, which importers reject.
    """
    if not record.masks:
        return record.masks
    try:
        masks = decode_masks(record.masks, record.height, record.width)
    except InvalidInputError as error:
        raise InvalidRecordError(
            f"Record {record.id!r} of source {record.source!r}: {error}; import the data again."
        ) from None
    return encode_masks(move(masks))
