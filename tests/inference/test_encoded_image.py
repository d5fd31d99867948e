"""An image that is encoded once, for any number of queries."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

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
    encoded = Mdetr.from_pretrained("clevr-tiny").encode_image(SCENE)
    for method in (scenes.ground, scenes.refer, scenes.answer):
        with pytest.raises(InvalidInputError, match="was encoded by another model"):
            method(encoded, TEXT)
    with pytest.raises(InvalidInputError, match="was encoded by another model"):
        scenes.detect(encoded, ["cube"])


def test_several_images_are_not_encoded_as_one(scenes: Mdetr) -> None:
    with pytest.raises(InvalidInputError, match="ground_batch"):
        scenes.encode_image([SCENE, SCENE])  # type: ignore[arg-type]
