"""Random textures of the reflections in metal and of the ground."""

from __future__ import annotations

import math

import numpy as np

from mdetr.synthetic_clevr.appearance import Appearance, Camera
from mdetr.synthetic_clevr.scenes import COLORS

SIZE = 48  # width of a face of the reflections' cube texture, in pixels
GROUND_SIZE = 128  # width of the ground's texture, in pixels
_FACES = (  # of MuJoCo's cube textures, in order: outward axis, and axes of columns and rows
    ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
    ((-1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, 1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, -1, 0), (1, 0, 0), (0, 0, -1)),
    ((0, 0, 1), (1, 0, 0), (0, -1, 0)),
    ((0, 0, -1), (-1, 0, 0), (0, -1, 0)),
)


def reflections(appearance: Appearance, camera: Camera, colors: tuple[str, ...]) -> np.ndarray:
    """Reflections that the camera sees in metal, by the normal of its surface.

    Args:
        appearance: Ground, lights and surroundings, which are reflected.
        camera: The camera.
        colors: Names of the objects' colors, which appear in random directions near the horizon.

    Returns:
        Cube texture, (6, SIZE, SIZE, 3) uint8.
    """
    normals = _cube_directions()
    forward, _, _ = camera.axes()
    reflected = forward - 2 * (normals @ forward)[..., None] * normals
    texture = _environment(reflected, appearance, colors)
    return (255 * np.clip(texture, 0, 1)).astype(np.uint8)


def ground_pattern(appearance: Appearance) -> np.ndarray:
    """Texture of the ground, white with smooth darker spots.

    Args:
        appearance: Strength and seed of the pattern.

    Returns:
        (GROUND_SIZE, GROUND_SIZE, 3) uint8.
    """
    random = np.random.default_rng(appearance.surroundings)
    noise = np.zeros((GROUND_SIZE, GROUND_SIZE))
    for cells, weight in ((4, 0.4), (16, 0.35), (64, 0.25)):
        noise += weight * _smooth_noise(random, cells)
    shade = 1 - appearance.pattern * (noise - noise.min()) / np.ptp(noise)
    return np.repeat((255 * shade[..., None]).astype(np.uint8), 3, axis=2)


def _environment(directions: np.ndarray, appearance: Appearance, colors: tuple[str, ...]) -> np.ndarray:
    """Color in each direction, (..., 3): ground, sky, some bright panels, some colored spots."""
    # Ground and sky
    random = np.random.default_rng(appearance.surroundings)
    up = directions[..., 2:3]
    ground, haze = np.array(appearance.ground), np.array(appearance.haze)
    low, high = random.uniform(0.25, 0.9), random.uniform(0.3, 1.0)
    sky = haze * (low + (high - low) * np.clip(up, 0, 1))
    floor = ground * (0.45 + 0.5 * np.clip(-up, 0, 1))
    edge = 1 / (1 + np.exp(-up / random.uniform(0.02, 0.12)))
    texture = edge * sky + (1 - edge) * floor

    # Windows and lamps, round or square: where the lights come from, and elsewhere
    centers = [np.array(light.direction) for light in appearance.lights]
    centers += [_random_direction(random, 0.1, 0.9) for _ in range(int(random.integers(1, 5)))]
    for center in centers:
        bright = random.uniform(0.5, 1.3) * (1 + random.uniform(-0.1, 0.1, size=3))
        weight = _spot(directions, center, random.uniform(0.15, 0.5), bool(random.random() < 0.5))
        texture = texture + weight * (bright - texture)

    # Colors of the objects, near the horizon
    for name in colors:
        center = _random_direction(random, -0.35, 0.05)
        color = np.array(COLORS[name]) / 255 * random.uniform(0.5, 0.9)
        weight = _spot(directions, center, random.uniform(0.08, 0.22), False) * random.uniform(0.3, 0.8)
        texture = texture + weight * (color - texture)
    return texture


def _spot(directions: np.ndarray, center: np.ndarray, radius: float, square: bool) -> np.ndarray:
    """1 in a spot of the sphere around a direction, 0 outside, (..., 1)."""
    side = np.cross(center, (0.0, 0.0, 1.0))
    side = side / max(float(np.linalg.norm(side)), 1e-6)
    across, along = directions @ side, directions @ np.cross(side, center)
    away = np.maximum(abs(across), abs(along)) if square else np.hypot(across, along)
    inside = 1 / (1 + np.exp((away - radius) / 0.03))
    return (inside * (directions @ center > 0))[..., None]


def _random_direction(random: np.random.Generator, lowest: float, highest: float) -> np.ndarray:
    up, turn = random.uniform(lowest, highest), random.uniform(0, 2 * math.pi)
    flat = math.sqrt(1 - up * up)
    return np.array([flat * math.cos(turn), flat * math.sin(turn), up])


def _cube_directions() -> np.ndarray:
    """Unit vectors from the center of a cube to the pixels of its texture, (6, SIZE, SIZE, 3)."""
    line = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    rows, columns = np.meshgrid(line, line, indexing="ij")
    faces = []
    for out, right, down in _FACES:
        across = columns[..., None] * np.array(right)
        faces.append(np.array(out, float) + across + rows[..., None] * np.array(down))
    vectors = np.stack(faces)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _smooth_noise(random: np.random.Generator, cells: int) -> np.ndarray:
    """Linearly interpolated noise with `cells` cells per side, which tiles without seams."""
    # Find the two cells around each pixel
    values = random.random((cells, cells))
    position = np.arange(GROUND_SIZE) / GROUND_SIZE * cells
    first, weight = position.astype(int), position % 1
    second = (first + 1) % cells

    # Interpolate the rows, then the columns
    rows = values[first] * (1 - weight)[:, None] + values[second] * weight[:, None]
    return rows[:, first] * (1 - weight) + rows[:, second] * weight
