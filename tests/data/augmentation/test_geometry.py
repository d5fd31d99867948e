"""Geometric changes of records: a mask that cannot be decoded is reported with its record."""

from __future__ import annotations

import pytest

from mdetr.data.augmentation.geometry import move_masks
from mdetr.data.record import Record
from mdetr.errors import InvalidRecordError


@pytest.mark.parametrize("counts", [b"", b"oooooooooooooooo"])
def test_a_damaged_mask_is_refused_with_its_record(counts: bytes) -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    record = Record("made", "train", "7", "a.png", "a", 9, 9, "a cat", (box,), ((),), masks=(counts,))
    with pytest.raises(InvalidRecordError, match=r"Record '7' .* not those of 9 x 9 pixels"):
        move_masks(record, lambda masks: masks)
