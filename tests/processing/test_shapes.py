"""The shapes in annotations of processing are checked in the tests."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.layouts import image_layouts
from mdetr.processing.rle import decode_masks, encode_masks, run_lengths


def test_an_image_of_floats_or_with_channels_first_is_not_resized() -> None:
    processor = MdetrImageProcessor()
    processor.resize(np.zeros((20, 30, 3), np.uint8))
    for wrong in (np.zeros((20, 30, 3)), np.zeros((3, 20, 30), np.uint8)):
        with pytest.raises(TypeCheckError, match=r"image"):
            processor.resize(wrong)


def test_a_mask_of_the_batch_needs_one_plane_for_each_image() -> None:
    with pytest.raises(TypeCheckError, match=r"pixel_mask"):
        image_layouts([(2, 3)], np.ones((2, 3), np.int64))


def test_masks_are_integers_for_encoding_and_a_single_mask_is_boolean() -> None:
    masks = np.eye(4, dtype=np.uint8)[None]
    assert np.array_equal(decode_masks(encode_masks(masks), 4, 4), masks)
    with pytest.raises(TypeCheckError, match=r"masks"):
        encode_masks(masks[0])
    with pytest.raises(TypeCheckError, match=r"mask"):
        run_lengths(masks[0])
