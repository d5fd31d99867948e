"""The cache of encoded images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdetr import Mdetr
from mdetr.inference.encoded_image import EncodedImage
from mdetr.inference.image_cache import EncodedImageCache, ImageKey


@pytest.fixture(scope="module")
def image(tiny_model_folder: Path) -> EncodedImage:
    model = Mdetr.from_pretrained(tiny_model_folder, device="cpu")
    return model.encode_image(np.zeros((32, 32, 3), np.uint8))


def test_keys_depend_on_the_model_and_on_the_content() -> None:
    assert ImageKey.of("a", b"content") == ImageKey.of("a", bytes(bytearray(b"content")))
    assert ImageKey.of("a", b"content") != ImageKey.of("b", b"content")
    assert ImageKey.of("a", b"content") != ImageKey.of("a", b"other")


def test_the_image_used_least_recently_is_dropped(image: EncodedImage) -> None:
    cache = EncodedImageCache(2)
    first, second, third = (ImageKey.of("model", name) for name in (b"1", b"2", b"3"))
    cache.add(first, image)
    cache.add(second, image)
    assert cache.find(first) is image
    cache.add(third, image)
    assert [cache.find(key) is None for key in (first, second, third)] == [False, True, False]


def test_the_images_of_a_model_are_dropped_together(image: EncodedImage) -> None:
    cache = EncodedImageCache(4)
    for model in ("a", "b"):
        cache.add(ImageKey.of(model, b"1"), image)
    cache.drop_model("a")
    assert len(cache) == 1
    assert cache.find(ImageKey.of("b", b"1")) is image
