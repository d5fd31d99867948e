"""Scenes: a random generator in, objects on the ground with their attributes, a camera and lights out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mdetr.errors import InvalidInputError

SHAPES = ("cube", "sphere", "cylinder")
MATERIALS = ("rubber", "metal")
SIZES = {"large": 0.7, "small": 0.35}
COLORS = {  # CLEVR's eight
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
MIN_OBJECTS, MAX_OBJECTS = 3, 10
GROUND = 3.0  # objects stand on a square of this half side
MIN_GAP = 0.25  # between two objects
RELATION_EPSILON = 0.2  # CLEVR's: closer than this is neither left nor right
PLACEMENT_TRIES = 60


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A thing on the ground: its attributes, the turn about the vertical in degrees, its centre."""

    shape: str
    color: str
    material: str
    size: str
    rotation: float
    position: tuple[float, float, float]

    @property
    def radius(self) -> float:
        """Half of the height; a cube's half side is smaller, so that all shapes look equally large."""
        return SIZES[self.size] / math.sqrt(2) if self.shape == "cube" else SIZES[self.size]


@dataclass(frozen=True, slots=True)
class Camera:
    """Looks at the middle of the ground; azimuth and elevation in degrees, distance in scene units."""

    azimuth: float
    elevation: float
    distance: float
    field_of_view: float = 29.0
    height: float = 0.15

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors forward, right and up."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        forward = np.array(
            [
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            ]
        )
        right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
        return forward, right, np.cross(right, forward)

    def project(self, points: np.ndarray, width: int, height: int) -> np.ndarray:
        """World points (n, 3) -> (n, 3): column and row in pixels, and the depth."""
        forward, right, up = self.axes()
        eye = np.array([0.0, 0.0, self.height]) - self.distance * forward
        offset = points - eye
        depth = offset @ forward
        scale = height / 2 / math.tan(math.radians(self.field_of_view) / 2) / depth
        return np.stack(
            (width / 2 + scale * (offset @ right), height / 2 - scale * (offset @ up), depth), axis=1
        )

    def directions(self) -> dict[str, tuple[float, float, float]]:
        """The ground directions that "left", "right", "front" and "behind" mean for this camera."""
        forward, right, _ = self.axes()
        behind = np.array([forward[0], forward[1], 0.0])
        behind = behind / np.linalg.norm(behind)
        vectors = {"right": right, "behind": behind, "left": -right, "front": -behind}
        return {name: (float(v[0]), float(v[1]), 0.0) for name, v in vectors.items()}


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects, the camera, and the direction that the main light comes from (a unit vector)."""

    objects: tuple[SceneObject, ...]
    camera: Camera
    light: tuple[float, float, float]

    def offsets(self, direction: str) -> np.ndarray:
        """(n, n): how far object j lies from object i along `direction`."""
        vector = np.array(self.camera.directions()[direction])
        along = np.array([thing.position for thing in self.objects]) @ vector
        return along[None, :] - along[:, None]

    def relationships(self) -> dict[str, list[list[int]]]:
        """Per direction and object, the objects that lie that way, as CLEVR writes them."""
        return {
            name: [np.flatnonzero(row > RELATION_EPSILON).tolist() for row in self.offsets(name)]
            for name in self.camera.directions()
        }


def sample_scene(
    random: np.random.Generator, min_objects: int = MIN_OBJECTS, max_objects: int = MAX_OBJECTS
) -> Scene:
    """Draw a scene of `min_objects` to `max_objects` objects that do not touch.

    Raises:
        InvalidInputError: the numbers of objects are out of the range that the ground holds.
    """
    if not 1 <= min_objects <= max_objects <= MAX_OBJECTS:
        raise InvalidInputError(
            f"A scene holds 1 to {MAX_OBJECTS} objects; found a range from {min_objects} to {max_objects}."
        )
    camera = Camera(
        azimuth=float(random.uniform(125, 145)),
        elevation=float(random.uniform(-34, -27)),
        distance=float(random.uniform(11.2, 12.2)),
    )
    light = _light(random, camera)
    while True:
        objects = _place_objects(random, int(random.integers(min_objects, max_objects + 1)))
        if objects is not None:
            return Scene(objects, camera, light)


def _light(random: np.random.Generator, camera: Camera) -> tuple[float, float, float]:
    """From above, from the left or the right of the camera, a little from its side of the scene."""
    side = random.choice((-1, 1)) * random.uniform(0.35, 0.8)
    forward, right, _ = camera.axes()
    vector = side * right - 0.35 * np.array([forward[0], forward[1], 0.0]) + np.array([0.0, 0.0, 1.0])
    x, y, z = vector / np.linalg.norm(vector)
    return float(x), float(y), float(z)


def _place_objects(random: np.random.Generator, count: int) -> tuple[SceneObject, ...] | None:
    """`count` objects, or None where there was no room for one of them."""
    objects: list[SceneObject] = []
    for _ in range(count):
        size = str(random.choice(tuple(SIZES)))
        for _ in range(PLACEMENT_TRIES):
            x, y = random.uniform(-GROUND, GROUND, size=2)
            gaps = (
                math.hypot(x - other.position[0], y - other.position[1]) - SIZES[size] - SIZES[other.size]
                for other in objects
            )
            if all(gap > MIN_GAP for gap in gaps):
                break
        else:
            return None
        shape = str(random.choice(SHAPES))
        thing = SceneObject(
            shape=shape,
            color=str(random.choice(tuple(COLORS))),
            material=str(random.choice(MATERIALS)),
            size=size,
            rotation=float(random.uniform(0, 360)),
            position=(float(x), float(y), 0.0),
        )
        objects.append(_standing(thing))
    return tuple(objects)


def _standing(thing: SceneObject) -> SceneObject:
    x, y, _ = thing.position
    return SceneObject(
        thing.shape, thing.color, thing.material, thing.size, thing.rotation, (x, y, thing.radius)
    )
