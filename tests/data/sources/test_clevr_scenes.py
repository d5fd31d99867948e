"""CLEVR's scenes: boxes of published scenes, projected with a camera that the files do not tell."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdetr.data.sources.clevr_scenes import ClevrScenes, project_boxes
from mdetr.errors import InvalidRecordError


def _see(points: np.ndarray, azimuth: float, tilt: float, distance: float) -> np.ndarray:
    """A pinhole camera written down again: rows of a rotation, a focal length of 525 pixels, 480 x 320."""
    forward = [math.cos(tilt) * math.cos(azimuth), math.cos(tilt) * math.sin(azimuth), -math.sin(tilt)]
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])  # right, down, forward
    seen = points @ rotation.T + [0, 0, distance]
    return np.stack(
        [240 + 525 * seen[:, 0] / seen[:, 2], 160 + 525 * seen[:, 1] / seen[:, 2], seen[:, 2]], axis=1
    )


def _scene(
    camera: tuple[float, float, float], things: list[tuple[str, float, float, float, float]]
) -> dict[str, Any]:
    objects = []
    for shape, x, y, half, turn in things:
        column, row, depth = _see(np.array([[x, y, half]]), *camera)[0]
        objects.append(
            {
                "shape": shape,
                "rotation": turn,
                "3d_coords": [x, y, half],
                "pixel_coords": [round(column), round(row), depth],
            }
        )
    directions = {
        "right": [0.656, 0.754, 0.0],
        "behind": [-0.754, 0.656, 0.0],
    }  # of the camera that was not moved
    return {
        "image_index": 0,
        "image_filename": "CLEVR_val_000000.png",
        "objects": objects,
        "directions": directions,
    }


THINGS = [("cube", -1.3, 2.0, 0.7, 30.0), ("sphere", 1.5, 0.6, 0.35, 0.0), ("cylinder", 0.4, -2.5, 0.7, 10.0)]


@pytest.mark.parametrize("camera", [(2.43, 0.5, 11.4), (2.37, 0.55, 10.6), (2.5, 0.44, 12.0)])
def test_the_camera_is_found_to_a_pixel(camera: tuple[float, float, float]) -> None:
    boxes = project_boxes(_scene(camera, THINGS))
    for (shape, x, y, half, turn), box in zip(THINGS, boxes, strict=True):
        random = np.random.default_rng(0).standard_normal((20_000, 3))
        if shape == "sphere":
            points = random / np.linalg.norm(random, axis=1, keepdims=True)
        elif shape == "cube":
            points = 0.95 * random / np.abs(random).max(1, keepdims=True)  # its edges are rounded
        else:
            points = random / np.maximum(np.linalg.norm(random[:, :2], axis=1), np.abs(random[:, 2]))[:, None]
        rotation = np.array(
            [[math.cos(turn), math.sin(turn), 0], [-math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
        )  # radians, though the number is up to 360
        surface = _see(half * points @ rotation + [x, y, half], *camera)[:, :2]
        assert box == pytest.approx([*surface.min(0), *surface.max(0)], abs=1.5)


def test_a_scene_is_found_by_its_image(tmp_path: Path) -> None:
    file = tmp_path / "scenes.json"
    file.write_text(json.dumps({"scenes": [_scene((2.43, 0.5, 11.4), THINGS)]}))
    with ClevrScenes(file, tmp_path) as scenes:
        scene = scenes.of(0, "here")
        assert (scene.width, scene.height, len(scene.boxes)) == (480, 320, 3)
        with pytest.raises(InvalidRecordError, match=r"here: .* has no scene with image_index 3"):
            scenes.of(3, "here")


def test_a_scene_without_boxes_and_places_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scenes.json"
    file.write_text(json.dumps({"scenes": [{"image_index": 0, "objects": [{"shape": "cube"}]}]}))
    with pytest.raises(InvalidRecordError, match=r"entry 0: object 0: .* \"bbox\" of x0, y0, x1, y1"):
        ClevrScenes(file, tmp_path)
