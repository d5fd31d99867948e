"""Scenes: repeatable, within the ground, apart from each other, and seen where the camera says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mdetr.clevr.scenes import GROUND, MIN_GAP, SIZES, Camera, sample_scene
from mdetr.errors import InvalidInputError


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


def test_relations_agree_with_the_picture() -> None:
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


def test_the_middle_of_the_ground_is_in_the_middle_of_the_picture() -> None:
    camera = Camera(azimuth=135, elevation=-30, distance=12)
    column, row, depth = camera.project(np.array([[0.0, 0.0, camera.height]]), 240, 160)[0]
    assert (column, row, depth) == pytest.approx((120, 80, 12))


def test_more_objects_than_the_ground_holds_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="1 to 10 objects"):
        sample_scene(np.random.default_rng(0), max_objects=11)
