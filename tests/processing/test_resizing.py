"""Resizing of images and maps, compared with torchvision and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from mdetr.processing.resizing import resize_image, resize_linearly

SIZES = [((48, 64), (80, 106)), ((120, 90), (53, 40)), ((33, 50), (33, 71)), ((1, 5), (3, 40))]


@pytest.mark.parametrize(("size", "new"), SIZES, ids=str)
def test_an_image_is_resized_as_by_pillow_and_nearly_as_by_torchvision(
    size: tuple[int, int], new: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    resized = resize_image(image, new)
    expected = Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(resized, np.asarray(expected))

    # Torchvision rounds the weights of the pixels to fewer bits
    planes = torch.from_numpy(image).permute(2, 0, 1)
    other = tv.resize(planes, list(new), tv.InterpolationMode.BILINEAR, antialias=True).permute(1, 2, 0)
    difference = np.abs(resized.astype(int) - other.numpy().astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize_image(image, (4, 6)) is image


@pytest.mark.parametrize(("size", "new"), [*SIZES, ((25, 42), (800, 1333)), ((80, 133), (48, 64))], ids=str)
def test_a_map_is_interpolated_as_by_torch(size: tuple[int, int], new: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(values)[None, None], new, mode="bilinear")[0, 0]
    resized = resize_linearly(values, new)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=1e-4)


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="image"):
        resize_image(np.zeros((3, 4, 6), np.uint8), (8, 12))
    with pytest.raises(TypeCheckError, match="values"):
        resize_linearly(np.zeros((1, 4, 6), np.float32), (8, 12))
