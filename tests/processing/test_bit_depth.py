"""Gray images of more than 8 bits, of more than one strip."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mdetr.processing.bit_depth import strips, to_8_bit

SHAPE = 1700, 1300  # three strips


def test_strips_have_each_row_once() -> None:
    parts = strips(SHAPE)
    assert len(parts) == 3
    assert np.concatenate([np.arange(1700)[part] for part in parts]).tolist() == list(range(1700))
    assert strips((2, 3_000_000)) == [slice(0, 1), slice(1, 2)]


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint32).reshape(SHAPE) % 65536
    image = to_8_bit(Image.fromarray(values.astype(np.uint16)))
    assert np.array_equal(np.asarray(image), values >> 8)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 1.0)])
def test_floats_are_scaled_by_the_range_of_all_strips(low: float, high: float) -> None:
    values = np.linspace(low, high, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    values[1600, 7] = np.nan
    scaled = np.asarray(to_8_bit(Image.fromarray(values))).astype(int)
    expected = np.nan_to_num((values.astype(np.float64) - low) / (high - low) * 255)
    assert np.abs(scaled - expected).max() <= 0.5001


def test_images_of_eight_bits_stay() -> None:
    image = Image.new("RGB", (4, 3))
    assert to_8_bit(image) is image
