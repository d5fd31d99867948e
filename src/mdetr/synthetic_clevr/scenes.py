"""Random scenes: objects on the ground with their attributes, a camera and lights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from mdetr.errors import InvalidInputError
from mdetr.synthetic_clevr.appearance import Appearance, Camera, Look, sample_appearance, sample_camera

SHAPES = ("cube", "sphere", "cylinder")
MATERIALS = ("rubber", "metal")
SIZES = {"large": 0.7, "small": 0.35}
COLORS = {  # red, green and blue of CLEVR's eight colors
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
Condition = Literal["A", "B"]
"""Condition of CLEVR-CoGenT (Johnson et al., 2017): colors of cubes and cylinders, swapped in the other."""

CONDITIONS: tuple[Condition, ...] = get_args(Condition)
_COGENT = (("gray", "blue", "brown", "yellow"), ("red", "green", "purple", "cyan"))
_COLORS_OF: Mapping[Condition, Mapping[str, Sequence[str]]] = {
    "A": {"cube": _COGENT[0], "cylinder": _COGENT[1]},
    "B": {"cube": _COGENT[1], "cylinder": _COGENT[0]},
}
MIN_OBJECTS, MAX_OBJECTS = 3, 10  # more hardly fit on the ground
GROUND = 3.0  # half the side of the square that objects stand on
MIN_GAP = 0.25  # between two objects
MARGIN = 0.4  # CLEVR's least distance of two objects, from left to right and from front to back
RELATION_EPSILON = 0.2  # CLEVR's least distance for an object to be left or right of another
PLACEMENT_TRIES = 60


@dataclass(frozen=True, slots=True)
class SceneObject:
    """An object on the ground.

    Attributes:
        shape: "cube", "sphere" or "cylinder".
        color: A name of `COLORS`.
        material: "rubber" or "metal".
        size: "large" or "small".
        rotation: Angle about the vertical, in radians; sampled from 0 to 360, as in CLEVR.
        position: Center, in scene units.
    """

    shape: str
    color: str
    material: str
    size: str
    rotation: float
    position: tuple[float, float, float]

    @property
    def radius(self) -> float:
        """Half of the height; smaller for cubes, to make all shapes appear equally large."""
        return SIZES[self.size] / math.sqrt(2) if self.shape == "cube" else SIZES[self.size]


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects, camera, and appearance of a scene."""

    objects: tuple[SceneObject, ...]
    camera: Camera
    appearance: Appearance

    def offsets(self, direction: str) -> np.ndarray:
        """Offsets of all objects from all others along a direction.

        Args:
            direction: "left", "right", "front" or "behind".

        Returns:
            (n, n), offset of object j from object i, in scene units.
        """
        vector = np.array(self.camera.directions()[direction])
        along = np.array([thing.position for thing in self.objects]) @ vector
        return along[None, :] - along[:, None]

    def relationships(self) -> dict[str, list[list[int]]]:
        """Spatial relations of all objects, as in CLEVR's scene files.

        Returns:
            Direction -> for each object, the indices of the objects in this direction.
        """
        relationships = {}
        for name in self.camera.directions():
            is_related = self.offsets(name) > RELATION_EPSILON
            relationships[name] = [np.flatnonzero(row).tolist() for row in is_related]
        return relationships


def to_condition(name: str) -> Condition:
    """Check the name of a condition.

    Args:
        name: The name.

    Returns:
        The condition.

    Raises:
        InvalidInputError: There is no such condition.
    """
    for condition in CONDITIONS:
        if name == condition:
            return condition
    raise InvalidInputError(f"Expected a condition of {', '.join(CONDITIONS)}, got {name!r}.")


def check_objects(min_objects: int, max_objects: int) -> None:
    """Check the numbers of objects in a scene.

    Args:
        min_objects: Minimum number of objects.
        max_objects: Maximum number of objects.

    Raises:
        InvalidInputError: The numbers are outside of what fits on the ground.
    """
    if not 1 <= min_objects <= max_objects <= MAX_OBJECTS:
        raise InvalidInputError(
            f"Expected 1 to {MAX_OBJECTS} objects per scene, got {min_objects} to {max_objects}; "
            "choose numbers in this range."
        )


def sample_scene(
    random: np.random.Generator,
    min_objects: int = MIN_OBJECTS,
    max_objects: int = MAX_OBJECTS,
    look: Look = "home",
    condition: Condition | None = None,
) -> Scene:
    """Sample a scene of objects that do not touch.

    Args:
        random: Source of randomness.
        min_objects: Minimum number of objects.
        max_objects: Maximum number of objects.
        look: Range of appearances.
        condition: Condition of CLEVR-CoGenT; None for all colors of all shapes.

    Returns:
        The scene.

    Raises:
        InvalidInputError: The numbers of objects are outside of what fits on the ground.
    """
    check_objects(min_objects, max_objects)
    camera = sample_camera(random, look)
    count = int(random.integers(min_objects, max_objects + 1))
    while True:
        objects = _place_objects(random, camera, count, {} if condition is None else _COLORS_OF[condition])
        if objects is not None:
            return Scene(objects, camera, sample_appearance(random, camera, look))


def _place_objects(
    random: np.random.Generator, camera: Camera, count: int, colors_of: Mapping[str, Sequence[str]]
) -> tuple[SceneObject, ...] | None:
    """Sample `count` objects; None where there was no room for one of them."""
    directions = np.array([camera.directions()[name][:2] for name in ("right", "behind")])
    objects: list[SceneObject] = []
    for _ in range(count):
        # Find a free position for an object of this size
        size = str(random.choice(tuple(SIZES)))
        for _ in range(PLACEMENT_TRIES):
            x, y = random.uniform(-GROUND, GROUND, size=2)
            if all(_is_apart(np.array([x, y]), size, other, directions) for other in objects):
                break
        else:
            return None

        # Choose its other attributes
        shape = str(random.choice(SHAPES))
        thing = SceneObject(
            shape=shape,
            color=str(random.choice(colors_of.get(shape, tuple(COLORS)))),
            material=str(random.choice(MATERIALS)),
            size=size,
            rotation=float(random.uniform(0, 360)),
            position=(float(x), float(y), 0.0),
        )
        objects.append(replace(thing, position=(float(x), float(y), thing.radius)))  # on the ground
    return tuple(objects)


def _is_apart(position: np.ndarray, size: str, other: SceneObject, directions: np.ndarray) -> bool:
    """Whether an object at a position is far enough from another, and clearly on one side of it."""
    offset = position - np.array(other.position[:2])
    gap = math.hypot(*offset) - SIZES[size] - SIZES[other.size]
    return gap > MIN_GAP and bool((abs(directions @ offset) > MARGIN).all())
