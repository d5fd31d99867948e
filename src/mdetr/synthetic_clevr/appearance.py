"""Random cameras, lights, grounds and surroundings of scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mdetr.errors import InvalidInputError

Look = Literal["home", "unseen"]
"""A range of appearances: the one to train on, and one that shares no camera, light or ground with it."""

LOOKS: tuple[Look, ...] = get_args(Look)
EDGES = ((0.04, 0.88), (0.1, 0.94), (0.16, 1.0))
"""Variants of cubes and cylinders: radius of the edges and of the cylinder, in half heights."""

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that looks at the center of the ground.

    Attributes:
        azimuth: Direction of view on the ground, in degrees.
        elevation: Direction of view above the ground, in degrees; negative for looking down.
        distance: Distance of the point that it looks at, in scene units.
        field_of_view: Vertical field of view, in degrees.
        height: Height of the point that it looks at, in scene units.
    """

    azimuth: float
    elevation: float
    distance: float
    field_of_view: float = 29.0
    height: float = 0.15

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axes of the camera.

        Returns:
            Unit vectors (3,) forward, right and up.
        """
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
        """Project points to the image.

        Args:
            points: (n, 3) points in scene units.
            width: Width of the image, in pixels.
            height: Height of the image, in pixels.

        Returns:
            (n, 3) column and row in pixels, and depth in scene units.
        """
        forward, right, up = self.axes()
        eye = np.array([0.0, 0.0, self.height]) - self.distance * forward
        offset = points - eye
        depth = offset @ forward
        scale = height / 2 / math.tan(math.radians(self.field_of_view) / 2) / depth
        return np.stack(
            (width / 2 + scale * (offset @ right), height / 2 - scale * (offset @ up), depth), axis=1
        )

    def directions(self) -> dict[str, Vector]:
        """Directions on the ground, as seen by this camera.

        Returns:
            "left", "right", "front" and "behind" -> unit vector.
        """
        forward, right, _ = self.axes()
        behind = np.array([forward[0], forward[1], 0.0])
        behind = behind / np.linalg.norm(behind)
        vectors = {"right": right, "behind": behind, "left": -right, "front": -behind}
        return {name: (float(v[0]), float(v[1]), 0.0) for name, v in vectors.items()}


@dataclass(frozen=True, slots=True)
class Light:
    """A distant light.

    Attributes:
        direction: Unit vector towards the light.
        color: Intensity of red, green and blue, about 0 to 1.
        softness: Half its angular size, in radians; 0 gives hard shadows.
        casts_shadow: Whether objects cast shadows in it.
    """

    direction: Vector
    color: Vector
    softness: float = 0.0
    casts_shadow: bool = True


@dataclass(frozen=True, slots=True)
class Appearance:
    """Lights, ground and surroundings.

    Attributes:
        lights: One to three.
        ambient: Intensity of light from everywhere, 0 to 1.
        headlight: Intensity of light from the camera, 0 to 1.
        ground: Color of the ground near the camera, 0 to 1.
        haze: Color of the ground far away, 0 to 1.
        pattern: Strength of the ground's pattern, 0 for plain.
        surroundings: Seed of the surroundings that metal reflects.
        edges: Index in `EDGES`.
        exposure: Factors of the image's red, green and blue.
        grain: Standard deviation of the image's noise, in steps of 256.
    """

    lights: tuple[Light, ...]
    ambient: float = 0.33
    headlight: float = 0.16
    ground: Vector = (0.72, 0.73, 0.74)
    haze: Vector = (0.62, 0.63, 0.64)
    pattern: float = 0.0
    surroundings: int = 0
    edges: int = 0
    exposure: Vector = (1.0, 1.0, 1.0)
    grain: float = 0.0


def to_look(name: str) -> Look:
    """Check the name of a look.

    Args:
        name: The name.

    Returns:
        The look.

    Raises:
        InvalidInputError: The look is unknown.
    """
    for look in LOOKS:
        if look == name:
            return look
    raise InvalidInputError(f"Expected a look of {', '.join(LOOKS)}, got {name!r}; choose one of these.")


def sample_camera(random: np.random.Generator, look: Look = "home") -> Camera:
    """Sample a camera.

    Args:
        random: Source of randomness.
        look: "home" for fields of view around CLEVR's 29 to 34 degrees, "unseen" for wider ones.

    Returns:
        The camera.
    """
    if look == "home":
        field_of_view = float(random.uniform(27, 36))
        elevation, nearness = float(random.uniform(-37, -24)), float(random.uniform(0.95, 1.12))
    else:
        field_of_view = float(random.uniform(39, 46))
        elevation, nearness = float(random.uniform(-46, -39)), float(random.uniform(0.95, 1.1))

    # Choose the distance at which the ground fills about the same part of the image
    distance = nearness * 11.2 * math.tan(math.radians(14.5)) / math.tan(math.radians(field_of_view) / 2)
    azimuth = float(random.uniform(120, 150) if look == "home" else random.uniform(-60, 60))
    return Camera(azimuth, elevation, distance, field_of_view)


def sample_appearance(random: np.random.Generator, camera: Camera, look: Look = "home") -> Appearance:
    """Sample lights, ground and surroundings.

    Args:
        random: Source of randomness.
        camera: Camera, which the lights are placed around.
        look: Range of appearances.

    Returns:
        The appearance.
    """
    if look == "unseen":
        return _sample_unseen(random, camera)

    # Main light, on one side
    side = float(random.choice((-1, 1)))
    lights = [
        Light(
            _towards(camera, side * random.uniform(0.2, 0.9), random.uniform(-0.1, 0.6)),
            _tinted(random, random.uniform(0.35, 0.75), 0.06),
            float(random.choice((0.0, random.uniform(0.03, 0.16)))),
        )
    ]

    # Up to two weaker lights
    for number in range(int(random.integers(0, 3))):
        towards = _towards(camera, -side * random.uniform(-0.2, 1.2), random.uniform(-0.6, 0.8))
        strength = random.uniform(0.08, 0.35)
        shadow = number == 0 and bool(random.random() < 0.5)
        lights.append(Light(towards, _tinted(random, strength, 0.08), casts_shadow=shadow))

    # Ground and surroundings
    bright = float(random.uniform(0.55, 0.85))
    ambient, headlight = float(random.uniform(0.2, 0.42)), float(random.uniform(0.05, 0.25))
    return Appearance(
        lights=tuple(lights),
        ambient=ambient,
        headlight=headlight,
        ground=_tinted(random, bright, 0.04),
        haze=_tinted(random, bright * random.uniform(0.65, 1.05), 0.04),
        pattern=float(random.choice((0.0, random.uniform(0.0, 0.12)))),
        surroundings=int(random.integers(2**31)),
        edges=int(random.integers(len(EDGES))),
        exposure=_exposure(random, bright * _light_on_ground(lights, ambient, headlight), 0.05),
        grain=float(random.choice((0.0, random.uniform(0.0, 5.0)))),
    )


def _sample_unseen(random: np.random.Generator, camera: Camera) -> Appearance:
    """Light from behind the objects and high above; darker or tinted ground with a strong pattern."""
    # Lights
    side = float(random.choice((-1, 1)))
    lights = (
        Light(
            _towards(camera, side * random.uniform(0.1, 0.6), random.uniform(-0.9, -0.3)),
            _tinted(random, random.uniform(0.5, 0.8), 0.1),
            float(random.uniform(0.05, 0.2)),
        ),
        Light(_towards(camera, -side * 1.3, 0.5), _tinted(random, random.uniform(0.2, 0.4), 0.12)),
    )

    # Ground and surroundings
    bright = float(random.uniform(0.35, 0.5) if random.random() < 0.5 else random.uniform(0.85, 0.95))
    ambient, headlight = float(random.uniform(0.3, 0.4)), float(random.uniform(0.1, 0.2))
    return Appearance(
        lights=lights,
        ambient=ambient,
        headlight=headlight,
        ground=_tinted(random, bright, 0.12),
        haze=_tinted(random, bright * 0.8, 0.12),
        pattern=float(random.uniform(0.2, 0.35)),
        surroundings=int(random.integers(2**31)),
        edges=int(random.integers(len(EDGES))),
        exposure=_exposure(random, bright * _light_on_ground(lights, ambient, headlight), 0.03),
        grain=float(random.uniform(0.0, 4.0)),
    )


def _light_on_ground(lights: Sequence[Light], ambient: float, headlight: float) -> float:
    """Brightness of a white ground, about 0 to 1, before exposure."""
    return ambient + headlight / 2 + sum(light.direction[2] * max(light.color) for light in lights)


def _exposure(random: np.random.Generator, bright: float, tint: float) -> Vector:
    """Exposure that gives a ground of some brightness a dim to bright one, but not white."""
    target = random.uniform(0.42, 0.85)
    return _tinted(random, min(max(target / bright, 0.65), 1.5), tint)


def _towards(camera: Camera, right: float, nearer: float) -> Vector:
    """Unit vector upwards, and to the right and towards the camera by these fractions of the upward part."""
    forward, side, _ = camera.axes()
    back = -np.array([forward[0], forward[1], 0.0]) / np.linalg.norm(forward[:2])
    vector = right * side + nearer * back + np.array([0.0, 0.0, 1.0])
    x, y, z = vector / np.linalg.norm(vector)
    return float(x), float(y), float(z)


def _tinted(random: np.random.Generator, brightness: float, tint: float) -> Vector:
    """A gray of some brightness, with a random tint of at most `tint`."""
    red, green, blue = brightness * (1 + random.uniform(-tint, tint, size=3))
    return float(red), float(green), float(blue)
