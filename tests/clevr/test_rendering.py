"""Pictures: objects where the camera says, in their colours, with shadows, on a plain ground."""

from __future__ import annotations

import numpy as np
import pytest

from mdetr.clevr import rendering
from mdetr.clevr.rendering import Renderer, visible_boxes, visible_pixels
from mdetr.clevr.scenes import Camera, Scene, SceneObject
from mdetr.errors import MissingDependencyError

CAMERA = Camera(azimuth=135, elevation=-30, distance=12)
LIGHT = (0.4, 0.0, 0.9165)


def _thing(color: str, position: tuple[float, float], material: str = "rubber") -> SceneObject:
    return SceneObject("sphere", color, material, "large", 0.0, (*position, 0.7))


def _alone(color: str, material: str = "rubber") -> Scene:
    return Scene((_thing(color, (0.0, 0.0), material),), CAMERA, LIGHT)


def test_an_object_is_seen_where_the_camera_projects_it(renderer: Renderer) -> None:
    things = (_thing("red", (1.5, -1.0)), _thing("blue", (-1.5, 1.0)))
    labels = renderer.labels(Scene(things, CAMERA, LIGHT))
    assert labels.shape == (160, 240)
    centres = CAMERA.project(np.array([thing.position for thing in things]), 240, 160)
    for box, (column, row, _) in zip(visible_boxes(labels, 2), centres, strict=True):
        assert box is not None
        x0, y0, x1, y1 = box
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((column, row), abs=1.5)


def test_colours_can_be_told_apart(renderer: Renderer) -> None:
    means = {}
    for color in ("red", "green", "blue"):
        scene = _alone(color)
        drawn = renderer.render(scene)
        means[color] = drawn.picture[drawn.labels == 0].mean(0)
    for channel, color in enumerate(("red", "green", "blue")):
        assert means[color].argmax() == channel


def test_metal_shines_and_rubber_does_not(renderer: Renderer) -> None:
    brightest = {}
    for material in ("metal", "rubber"):
        drawn = renderer.render(_alone("blue", material))
        brightest[material] = drawn.picture[drawn.labels == 0].mean(-1).max()
    assert brightest["metal"] > brightest["rubber"] + 40


def test_an_object_casts_a_shadow_on_an_even_ground(renderer: Renderer) -> None:
    empty, drawn = renderer.render(Scene((), CAMERA, LIGHT)), renderer.render(_alone("gray"))
    ground = empty.picture.mean(-1)
    assert np.abs(np.diff(ground, axis=0)).max() < 6  # no visible edge
    darker = (ground - drawn.picture.mean(-1) > 30) & (drawn.labels < 0)
    assert darker.sum() > 100


def test_what_hides_another_takes_its_pixels(renderer: Renderer) -> None:
    forward, _, _ = CAMERA.axes()
    behind = tuple(float(value) for value in forward[:2] * 1.6)
    pair = (_thing("red", (0.0, 0.0)), _thing("blue", (behind[0], behind[1])))
    alone = visible_pixels(renderer.labels(Scene(pair[1:], CAMERA, LIGHT)), 1)[0]
    together = visible_pixels(renderer.labels(Scene(pair, CAMERA, LIGHT)), 2)
    assert 0 < together[1] < 0.8 * alone


def test_an_object_outside_the_picture_has_no_box() -> None:
    labels = np.full((4, 5), -1, dtype=np.int16)
    labels[1:3, 2] = 1
    assert visible_boxes(labels, 2) == [None, (2, 1, 3, 3)]
    assert visible_pixels(labels, 2).tolist() == [0, 2]


def test_without_opengl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(choice: str, width: int, height: int) -> None:
        raise RuntimeError(f"no {choice}")

    monkeypatch.setattr(rendering, "_gl_context", fail)
    with pytest.raises(MissingDependencyError, match=r"EGL or OSMesa.*apt install"):
        Renderer(32, 32)
