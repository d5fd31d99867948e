"""Scenes: reproducible, with objects on the ground, apart from each other, and cameras that project them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mdetr.errors import InvalidInputError
from mdetr.synthetic_clevr.appearance import Camera, sample_appearance, sample_camera, to_look
from mdetr.synthetic_clevr.scenes import (
    COLORS,
    CONDITIONS,
    GROUND,
    MARGIN,
    MIN_GAP,
    SIZES,
    sample_scene,
    to_condition,
)


def test_the_same_seed_gives_the_same_scene() -> None:
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert scenes[0] == scenes[1]
    assert scenes[0] != scenes[2]


def test_objects_stand_on_the_ground_and_apart() -> None:
    for seed in range(20):
        objects = sample_scene(np.random.default_rng(seed)).objects
        assert 3 <= len(objects) <= 10
        for thing in objects:
            x, y, z = thing.position
            assert max(abs(x), abs(y)) <= GROUND
            assert z == thing.radius
        for one, other in itertools.combinations(objects, 2):
            distance = math.dist(one.position[:2], other.position[:2])
            assert distance - SIZES[one.size] - SIZES[other.size] > MIN_GAP


def test_relations_agree_with_the_image() -> None:
    """What lies clearly to the right is further right in the picture; what lies behind is further away."""
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed))
        positions = np.array([thing.position for thing in scene.objects])
        _, _, depths = scene.camera.project(positions, 240, 160).T
        forward, right, _ = scene.camera.axes()
        relations = scene.relationships()
        for index, others in enumerate(relations["right"]):
            assert all((positions[other] - positions[index]) @ right > 0 for other in others)
            assert index not in others
        for index, others in enumerate(relations["behind"]):
            flat = depths - positions[:, 2] * forward[2]  # how far, whatever the height
            assert all(flat[other] > flat[index] for other in others)
        for index, others in enumerate(relations["left"]):
            assert all(index in relations["right"][other] for other in others)


def test_everything_is_clearly_on_one_side_of_everything_else() -> None:
    """As in CLEVR: any two things lie left and right, and in front and behind, of each other."""
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed))
        others = np.eye(len(scene.objects)) == 0
        for direction in ("right", "behind"):
            assert np.abs(scene.offsets(direction))[others].min() > MARGIN
        relations = scene.relationships()
        for index in range(len(scene.objects)):
            assert len(relations["left"][index]) + len(relations["right"][index]) == len(scene.objects) - 1
            assert len(relations["front"][index]) + len(relations["behind"][index]) == len(scene.objects) - 1


def test_all_numbers_of_objects_are_equally_frequent() -> None:
    counts = np.bincount([len(sample_scene(np.random.default_rng(seed)).objects) for seed in range(400)])
    assert counts[3:].min() > 25
    assert counts[3:].max() < 80


def test_the_conditions_of_cogent_swap_the_colors_of_cubes_and_cylinders() -> None:
    colors: dict[tuple[str, str], set[str]] = {}
    for condition in CONDITIONS:
        for seed in range(60):
            scene = sample_scene(np.random.default_rng(seed), condition=to_condition(condition))
            for thing in scene.objects:
                colors.setdefault((condition, thing.shape), set()).add(thing.color)
    assert colors["A", "cube"] == colors["B", "cylinder"] == {"gray", "blue", "brown", "yellow"}
    assert colors["B", "cube"] == colors["A", "cylinder"] == {"red", "green", "purple", "cyan"}
    assert colors["A", "sphere"] == colors["B", "sphere"] == set(COLORS)


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"Expected a condition of A, B, got 'C'"):
        to_condition("C")


def test_the_unseen_look_shares_no_camera_light_or_ground_with_home() -> None:
    random = np.random.default_rng(0)
    drawn: dict[str, list] = {}
    for look in ("home", "unseen"):
        cameras = [sample_camera(random, to_look(look)) for _ in range(200)]
        drawn[look] = [(camera, sample_appearance(random, camera, to_look(look))) for camera in cameras]
    for value in (
        lambda camera, _: camera.field_of_view,
        lambda camera, _: -camera.elevation,
        lambda camera, _: abs((camera.azimuth + 180) % 360 - 180 - 135) < 60,
        lambda _, appearance: appearance.pattern,
    ):
        home, unseen = ([float(value(*one)) for one in drawn[look]] for look in ("home", "unseen"))
        assert max(home) < min(unseen) or max(unseen) < min(home)
    angles = [camera.field_of_view for camera, _ in drawn["home"]]
    assert min(angles) < 29 < 34 < max(angles)


def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"Expected a look of home, unseen, got 'dark'"):
        to_look("dark")


def test_the_center_of_the_ground_is_in_the_center_of_the_image() -> None:
    camera = Camera(azimuth=135, elevation=-30, distance=12)
    column, row, depth = camera.project(np.array([[0.0, 0.0, camera.height]]), 240, 160)[0]
    assert (column, row, depth) == pytest.approx((120, 80, 12))


def test_more_objects_than_fit_on_the_ground_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="Expected 1 to 10 objects"):
        sample_scene(np.random.default_rng(0), max_objects=11)
