"""Scenes: a random generator in, objects on the ground with their attributes, a camera and lights out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mdetr.errors import InvalidInputError
from mdetr.synthetic_clevr.appearance import Appearance, Camera, Look, sample_appearance, sample_camera

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
MARGIN = 0.4  # CLEVR's: so far is everything left or right, and in front of or behind everything else
RELATION_EPSILON = 0.2  # CLEVR's: closer than this is neither left nor right
PLACEMENT_TRIES = 60


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A thing on the ground.

    Attributes:
        shape, color, material, size: As CLEVR names them.
        rotation: Turn about the vertical, in radians. CLEVR draws it from 0 to 360 all the same.
        position: Its center, in scene units.
    """

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
class Scene:
    """Objects, the camera, and what else the scene looks like."""

    objects: tuple[SceneObject, ...]
    camera: Camera
    appearance: Appearance

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
    random: np.random.Generator,
    min_objects: int = MIN_OBJECTS,
    max_objects: int = MAX_OBJECTS,
    look: Look = "home",
) -> Scene:
    """Draw a scene of `min_objects` to `max_objects` objects that do not touch.

    Raises:
        InvalidInputError: The numbers of objects are out of the range that the ground holds.
    """
    if not 1 <= min_objects <= max_objects <= MAX_OBJECTS:
        raise InvalidInputError(
            f"A scene holds 1 to {MAX_OBJECTS} objects; found a range from {min_objects} to {max_objects}."
        )
    camera = sample_camera(random, look)
    count = int(random.integers(min_objects, max_objects + 1))
    while True:
        objects = _place_objects(random, camera, count)
        if objects is not None:
            return Scene(objects, camera, sample_appearance(random, camera, look))


def _place_objects(random: np.random.Generator, camera: Camera, count: int) -> tuple[SceneObject, ...] | None:
    """`count` objects, or None where there was no room for one of them."""
    directions = np.array([camera.directions()[name][:2] for name in ("right", "behind")])
    objects: list[SceneObject] = []
    for _ in range(count):
        size = str(random.choice(tuple(SIZES)))
        for _ in range(PLACEMENT_TRIES):
            x, y = random.uniform(-GROUND, GROUND, size=2)
            if all(_apart(np.array([x, y]), size, other, directions) for other in objects):
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


def _apart(place: np.ndarray, size: str, other: SceneObject, directions: np.ndarray) -> bool:
    """Whether a thing at that place is far enough from another, and clearly on one side of it."""
    offset = place - np.array(other.position[:2])
    gap = math.hypot(*offset) - SIZES[size] - SIZES[other.size]
    return gap > MIN_GAP and bool((abs(directions @ offset) > MARGIN).all())


def _standing(thing: SceneObject) -> SceneObject:
    x, y, _ = thing.position
    return SceneObject(
        thing.shape, thing.color, thing.material, thing.size, thing.rotation, (x, y, thing.radius)
    )
