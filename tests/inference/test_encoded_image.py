"""An image that is encoded once, for any number of queries."""

from __future__ import annotations

import pickle
from copy import deepcopy
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from mdetr import Mdetr
from mdetr.errors import InvalidInputError
from mdetr.inference.results import Result

SCENE = Path(str(resources.files("mdetr") / "assets" / "demo" / "shapes.png"))
TEXT = "two purple metal balls and a red cube"


@pytest.fixture(scope="module")
def scenes() -> Mdetr:
    return Mdetr.from_pretrained("clevr-tiny")


def _same(one: Result, other: Result) -> bool:
    return (
        len(one.boxes) == len(other.boxes) > 0
        and one.phrases == other.phrases
        and np.allclose(one.boxes, other.boxes, atol=1e-3)
        and np.allclose(one.scores, other.scores, atol=1e-5)
    )


def test_every_task_gives_the_same_for_an_encoded_image_and_runs_the_backbone_once(scenes: Mdetr) -> None:
    runs: list[int] = []
    hook = scenes.model.backbone.register_forward_pre_hook(lambda _, inputs: runs.append(len(inputs[0])))
    encoded = scenes.encode_image(SCENE)
    results = (
        scenes.ground(encoded, TEXT),
        scenes.refer(encoded, "the green ball"),
        scenes.answer(encoded, "How many balls are there?"),
        scenes.detect(encoded, ["red cube", "ball"]),
    )
    assert runs == [1]
    hook.remove()
    expected = (
        scenes.ground(SCENE, TEXT),
        scenes.refer(SCENE, "the green ball"),
        scenes.answer(SCENE, "How many balls are there?"),
        scenes.detect(SCENE, ["red cube", "ball"]),
    )
    assert all(_same(*pair) for pair in zip(results, expected, strict=True))
    assert results[2].answer == expected[2].answer
    assert results[0].image.size == (480, 320)


def test_an_image_encoded_by_another_model_is_refused(scenes: Mdetr) -> None:
    other = Mdetr.from_pretrained("clevr-tiny")
    with torch.no_grad():
        other.model.get_parameter("input_projection.bias").add_(1)
    encoded = other.encode_image(SCENE)
    for method in (scenes.ground, scenes.refer, scenes.answer):
        with pytest.raises(InvalidInputError, match="was encoded by another model"):
            method(encoded, TEXT)
    with pytest.raises(InvalidInputError, match="was encoded by another model"):
        scenes.detect(encoded, ["cube"])
    with pytest.raises(InvalidInputError, match="was encoded by another model"):
        list(scenes.ground_batch([encoded], [TEXT]))


def test_copies_of_an_image_and_of_its_model_fit_together(scenes: Mdetr) -> None:
    encoded = scenes.encode_image(SCENE)
    expected = scenes.ground(encoded, TEXT)
    assert _same(scenes.ground(pickle.loads(pickle.dumps(encoded)), TEXT), expected)
    for copied in (Mdetr.from_pretrained("clevr-tiny"), pickle.loads(pickle.dumps(scenes)), deepcopy(scenes)):
        assert _same(copied.ground(deepcopy(encoded), TEXT), expected)
        assert _same(scenes.ground(copied.encode_image(SCENE), TEXT), expected)
    assert pickle.loads(pickle.dumps(expected)).to_dict() == expected.to_dict()


def test_another_number_type_is_another_model(scenes: Mdetr) -> None:
    half = Mdetr.from_pretrained("clevr-tiny", dtype=torch.bfloat16)
    with pytest.raises(InvalidInputError, match="was encoded by another model"):
        half.ground(scenes.encode_image(SCENE), TEXT)


def test_the_channels_of_an_encoded_image_are_not_reordered(scenes: Mdetr) -> None:
    encoded = scenes.encode_image(SCENE)
    for call in (
        lambda: scenes.ground(encoded, TEXT, channel_order="bgr"),
        lambda: scenes.detect(encoded, ["cube"], channel_order="bgr"),
        lambda: list(scenes.ground_batch([encoded], [TEXT], channel_order="bgr")),
    ):
        with pytest.raises(InvalidInputError, match="encoded already; give it to encode_image"):
            call()


def test_several_images_are_not_encoded_as_one(scenes: Mdetr) -> None:
    with pytest.raises(InvalidInputError, match="ground_batch"):
        scenes.encode_image([SCENE, SCENE])  # type: ignore[arg-type]
