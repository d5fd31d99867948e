"""Rendered images: positions, colors, shadows, reflections and labels of objects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mdetr.errors import MissingDependencyError
from mdetr.synthetic_clevr import rendering
from mdetr.synthetic_clevr.appearance import EDGES, Appearance, Camera, Light
from mdetr.synthetic_clevr.rendering import Renderer, visible_boxes, visible_pixels
from mdetr.synthetic_clevr.scenes import Scene, SceneObject, sample_scene

CAMERA = Camera(azimuth=135, elevation=-30, distance=12)
LOOK = Appearance(lights=(Light((0.4, 0.0, 0.9165), (0.62, 0.62, 0.6)),))


def _thing(color: str, position: tuple[float, float], material: str = "rubber") -> SceneObject:
    return SceneObject("sphere", color, material, "large", 0.0, (*position, 0.7))


def _alone(color: str, material: str = "rubber") -> Scene:
    return Scene((_thing(color, (0.0, 0.0), material),), CAMERA, LOOK)


def test_an_object_is_visible_where_the_camera_projects_it(renderer: Renderer) -> None:
    things = (_thing("red", (1.5, -1.0)), _thing("blue", (-1.5, 1.0)))
    labels = renderer.labels(Scene(things, CAMERA, LOOK))
    assert labels.shape == (160, 240)
    centres = CAMERA.project(np.array([thing.position for thing in things]), 240, 160)
    for box, (column, row, _) in zip(visible_boxes(labels, 2), centres, strict=True):
        assert box is not None
        x0, y0, x1, y1 = box
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((column, row), abs=1.5)


def test_colors_are_distinguishable(renderer: Renderer) -> None:
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
    empty, drawn = renderer.render(Scene((), CAMERA, LOOK)), renderer.render(_alone("gray"))
    ground = empty.picture.mean(-1)
    assert np.abs(np.diff(ground, axis=0)).max() < 6  # no visible edge
    darker = (ground - drawn.picture.mean(-1) > 30) & (drawn.labels < 0)
    assert darker.sum() > 100


def test_a_soft_light_has_soft_shadows(renderer: Renderer) -> None:
    """Between the shadow and the ground there are more pixels of middling brightness."""
    middling = []
    for softness in (0.0, 0.15):
        look = replace(LOOK, lights=(replace(LOOK.lights[0], softness=softness),))
        shadow = renderer.picture(replace(_alone("gray"), appearance=look)).mean(-1)
        ground = renderer.picture(Scene((), CAMERA, look)).mean(-1)
        darker = (ground - shadow)[renderer.labels(_alone("gray")) < 0]
        middling.append(((darker > 0.2 * darker.max()) & (darker < 0.8 * darker.max())).sum())
    assert middling[1] > 1.5 * middling[0]


def test_an_image_does_not_depend_on_earlier_ones(renderer: Renderer) -> None:
    first, other = (sample_scene(np.random.default_rng(seed)) for seed in (3, 4))
    pictures = [renderer.picture(scene).astype(int) for scene in (first, other, first)]
    another = Renderer(64, 48)
    another.picture(other)
    pictures.append(renderer.picture(first).astype(int))
    another.close()
    assert np.abs(pictures[0] - pictures[2]).max() <= 1
    assert np.abs(pictures[0] - pictures[3]).max() <= 1
    assert np.abs(pictures[0] - pictures[1]).max() > 20


def test_exposure_and_lights_make_dim_and_bright_images(renderer: Renderer) -> None:
    dim = renderer.picture(replace(_alone("red"), appearance=replace(LOOK, exposure=(0.6, 0.6, 0.6))))
    bright = renderer.picture(_alone("red"))
    assert dim.mean() == pytest.approx(0.6 * bright.mean(), rel=0.03)


def test_metal_reflects_its_surroundings_and_rubber_does_not(renderer: Renderer) -> None:
    change = {}
    for material in ("metal", "rubber"):
        scene = _alone("green", material)
        inside = renderer.labels(scene) == 0
        pictures = [
            renderer.picture(replace(scene, appearance=replace(LOOK, surroundings=seed))).astype(float)
            for seed in (1, 2)
        ]
        change[material] = np.abs(pictures[0] - pictures[1])[inside].mean()
    assert change["rubber"] < 1
    assert change["metal"] > 8


@pytest.mark.parametrize("shape", ["cube", "cylinder"])
def test_a_rounded_object_is_visible_where_it_stands(renderer: Renderer, shape: str) -> None:
    """Its box is that of its outline, whatever the edges and the turn."""
    for edges, (radius, girth) in enumerate(EDGES):
        thing = SceneObject(shape, "red", "rubber", "large", 0.0, (1.0, -0.5, 0.0))
        thing = replace(thing, position=(1.0, -0.5, thing.radius), rotation=math.radians(135 + 45))
        look = replace(LOOK, edges=edges)
        (box,) = visible_boxes(renderer.labels(Scene((thing,), CAMERA, look)), 1)
        assert box is not None
        half, flat = thing.radius, thing.radius * (girth if shape == "cylinder" else 1.0)
        turns = np.linspace(0, 2 * np.pi, 64) if shape == "cylinder" else np.radians([45, 135, 225, 315])
        reach = flat if shape == "cylinder" else flat * math.sqrt(2)
        outline = np.array(
            [(1.0 + reach * math.cos(t), -0.5 + reach * math.sin(t), z) for t in turns for z in (0, 2 * half)]
        )
        columns, rows, _ = CAMERA.project(outline, 240, 160).T
        expected = (columns.min(), rows.min(), columns.max(), rows.max())
        # Rounded corners are a little nearer to the middle than sharp ones.
        assert box == pytest.approx(expected, abs=2 + 8 * radius)


def test_an_occluding_object_takes_the_pixels_of_the_other(renderer: Renderer) -> None:
    forward, _, _ = CAMERA.axes()
    behind = tuple(float(value) for value in forward[:2] * 1.6)
    pair = (_thing("red", (0.0, 0.0)), _thing("blue", (behind[0], behind[1])))
    alone = visible_pixels(renderer.labels(Scene(pair[1:], CAMERA, LOOK)), 1)[0]
    together = visible_pixels(renderer.labels(Scene(pair, CAMERA, LOOK)), 2)
    assert 0 < together[1] < 0.8 * alone


def test_an_object_outside_the_image_has_no_box() -> None:
    labels = np.full((4, 5), -1, dtype=np.int16)
    labels[1:3, 2] = 1
    assert visible_boxes(labels, 2) == [None, (2, 1, 3, 3)]
    assert visible_pixels(labels, 2).tolist() == [0, 2]


def test_without_opengl_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(choice: str, width: int, height: int) -> None:
        raise RuntimeError(f"no {choice}")

    monkeypatch.setattr(rendering, "_gl_context", fail)
    with pytest.raises(MissingDependencyError, match=r"EGL or OSMesa.*apt install"):
        Renderer(32, 32)
