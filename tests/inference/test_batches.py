"""Batched inference: inputs are read lazily, results keep the order, invalid input is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdetr import Mdetr
from mdetr.errors import InvalidInputError
from mdetr.inference import batching

TEXTS = ["a red cube", "two balls", "the green thing", "a cube and a ball"]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Mdetr:
    return Mdetr.from_pretrained(tiny_model_folder, device="cpu")


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    """Four images of two shapes."""
    noise = np.random.default_rng(0)
    sizes = ((60, 90), (80, 60), (60, 90), (60, 90))
    return [noise.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("task", ["ground", "refer", "answer", "segment"])
def test_each_pair_is_answered_as_alone_and_in_order(
    model: Mdetr, arrays: list[np.ndarray], task: str
) -> None:
    results = getattr(model, f"{task}_batch")(iter(arrays), iter(TEXTS), threshold=0, batch_size=2)
    for image, text, result in zip(arrays, TEXTS, results, strict=True):
        alone = getattr(model, task)(image, text, threshold=0)
        assert result.text == text
        assert result.image.size == alone.image.size
        assert result.phrases == alone.phrases
        np.testing.assert_allclose(result.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-4)


@pytest.mark.parametrize("task", ["ground", "refer", "answer", "segment"])
def test_encoded_images_share_batches_with_others_and_are_not_encoded_again(
    model: Mdetr, arrays: list[np.ndarray], task: str
) -> None:
    images = [arrays[0], model.encode_image(arrays[1]), model.encode_image(arrays[2]), arrays[3]]
    counts: list[int] = []
    hook = model.model.backbone.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    results = list(getattr(model, f"{task}_batch")(images, TEXTS, threshold=0, batch_size=4))
    hook.remove()
    assert sum(counts) == 2
    for image, text, result in zip(arrays, TEXTS, results, strict=True):
        alone = getattr(model, task)(image, text, threshold=0)
        assert result.text == text
        np.testing.assert_allclose(result.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-4)


def test_images_are_encoded_in_batches_of_one_shape(model: Mdetr, arrays: list[np.ndarray]) -> None:
    counts: list[int] = []
    hook = model.model.backbone.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    loaded = [batching.load_for_model(model.processor, array) for array in arrays]
    encoded = batching.encode_loaded(model.model, model.processor, loaded)
    hook.remove()
    assert sorted(counts) == [1, 3]
    for array, image in zip(arrays, encoded, strict=True):
        assert image.layout.given == array.shape[:2]
        expected = model.encode_image(array).features.sequence
        torch.testing.assert_close(image.features.sequence, expected, atol=1e-4, rtol=1e-4)


def test_classes_are_looked_for_in_one_image_after_the_other(model: Mdetr, arrays: list[np.ndarray]) -> None:
    taken: list[int] = []
    results = model.detect_batch(_counted(arrays, taken), ["cube", "ball"], threshold=0)
    assert taken == []
    first = next(results)
    assert taken == [0]
    np.testing.assert_allclose(
        first.boxes, model.detect(arrays[0], ["cube", "ball"], threshold=0).boxes, atol=1e-2
    )
    assert set(first.labels) == {"cube", "ball"}
    assert [result.image.size for result in results] == [(60, 80), (90, 60), (90, 60)]


def _counted(images: list[np.ndarray], taken: list[int]) -> Iterator[np.ndarray]:
    for place, image in enumerate(images):
        taken.append(place)
        yield image


def test_images_without_end_are_read_only_a_few_batches_ahead(model: Mdetr, arrays: list[np.ndarray]) -> None:
    taken = 0

    def forever() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield arrays[1] if taken == 1 else arrays[0]  # the first is the only one of its shape

    results = model.ground_batch(forever(), "a cube", batch_size=2)
    assert taken == 0
    for number in range(1, 13):
        next(results)
        assert taken - number <= batching.LOOK_AHEAD * 2 + 1


def test_one_image_is_encoded_once_for_texts_without_end(
    model: Mdetr, arrays: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = model.model.encode_image

    def counted(*arguments: torch.Tensor) -> object:
        calls.append(len(arguments[0]))
        return encode(*arguments)

    monkeypatch.setattr(model.model, "encode_image", counted)
    texts = (f"a cube {number}" for number in iter(int, 1))  # 0 for ever
    results = model.ground_batch(arrays[0], texts, batch_size=2)
    assert [next(results).text for _ in range(5)] == ["a cube 0"] * 5
    assert calls == [1]


@pytest.mark.parametrize(
    ("images", "texts", "answered", "message"),
    [
        (4, 3, 3, "one text for each image, got 3 texts and more images"),
        (2, 4, 2, "one text for each image, got 2 images and more texts"),
        (4, ["a cube", "a ball", ""], 2, "The text is empty"),
        (4, ["a cube", "a ball", "cube " * 300], 2, "303 tokens"),
        (4, ["a cube", None], 1, "got NoneType"),
    ],
)
def test_what_comes_before_something_unusable_is_answered(
    model: Mdetr, arrays: list[np.ndarray], images: int, texts: object, answered: int, message: str
) -> None:
    given = TEXTS[:texts] if isinstance(texts, int) else texts
    results = model.ground_batch(arrays[:images], given, batch_size=8)  # type: ignore[arg-type]
    assert [next(results).text for _ in range(answered)] == list(given)[:answered]  # type: ignore[call-overload]
    with pytest.raises(InvalidInputError, match=message):
        next(results)


def test_an_image_that_cannot_be_read_is_told_after_the_results_before_it(
    model: Mdetr, arrays: list[np.ndarray], tmp_path: Path
) -> None:
    results = model.refer_batch([*arrays[:2], tmp_path / "none.png", arrays[3]], "a cube")
    assert [result.image.size for result in (next(results), next(results))] == [(90, 60), (60, 80)]
    with pytest.raises(InvalidInputError, match=r"There is no image at .*none\.png"):
        next(results)


def test_wrong_arguments_are_refused_at_the_call(model: Mdetr, arrays: list[np.ndarray]) -> None:
    with pytest.raises(InvalidInputError, match="Expected a threshold between 0 and 1"):
        model.ground_batch(arrays, "a cube", threshold=2)
    with pytest.raises(InvalidInputError, match="Expected a batch_size of at least 1"):
        model.ground_batch(arrays, "a cube", batch_size=0)
    with pytest.raises(InvalidInputError, match="The text is empty"):
        model.ground_batch(arrays, " ")
    with pytest.raises(InvalidInputError, match="list of class names"):
        model.detect_batch(arrays, "cube")


def test_stacked_arrays_are_several_images_and_frames_of_opencv_are_read_right(
    model: Mdetr, arrays: list[np.ndarray]
) -> None:
    same = [arrays[0], arrays[2], arrays[3]]
    expected = [model.ground(image, "a cube", threshold=0) for image in same]
    stacked = np.stack(same)
    swapped = stacked[..., ::-1]
    for results in (
        model.ground_batch(stacked, "a cube", threshold=0),
        model.ground_batch(swapped, "a cube", threshold=0, channel_order="bgr"),
        model.ground_batch(torch.from_numpy(stacked).permute(0, 3, 1, 2), "a cube", threshold=0),
        model.ground_batch(iter(swapped), "a cube", threshold=0, channel_order="bgr"),
    ):
        for result, alone in zip(results, expected, strict=True):
            np.testing.assert_allclose(result.boxes, alone.boxes, atol=1e-2)
            assert np.array_equal(np.asarray(result.image), np.asarray(alone.image))
    other = model.detect(swapped[0], ["cube"], threshold=0, channel_order="bgr")
    np.testing.assert_allclose(other.boxes, model.detect(same[0], ["cube"], threshold=0).boxes, atol=1e-2)


def test_encoded_images_are_results_that_can_be_drawn_again(model: Mdetr, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 0, 0)).save(tmp_path / "a.png")
    rows = [
        {"bytes": (tmp_path / "a.png").read_bytes(), "path": None},
        {"bytes": None, "path": tmp_path / "a.png"},
    ]
    with (tmp_path / "a.png").open("rb") as file:
        results = list(model.ground_batch([*rows, file], "a cube"))
    assert [result.image.getpixel((3, 3)) for result in results] == [(200, 0, 0)] * 3
