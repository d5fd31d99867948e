"""Triangle meshes of cubes and cylinders with rounded edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

AROUND = 40  # segments of a cylinder's circle
CORNER = 4  # segments of a rounded edge


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: (n, 3) positions.
        normals: (n, 3) unit normals of the vertices.
        faces: (m, 3) indices of vertices, counterclockwise as seen from outside.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray


def rounded_cube(half: float, radius: float) -> Mesh:
    """Make a cube, centered at the origin.

    Args:
        half: Half of its side.
        radius: Radius of its edges.

    Returns:
        The mesh.
    """
    # Divide each side into a flat part and the bands of two rounded edges
    inner = half - radius
    corner = radius * np.tan(np.linspace(-math.pi / 4, 0, CORNER + 1))
    line = np.concatenate([corner - inner, -corner[::-1] + inner])
    side = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    count = len(line)
    face = _grid(count, count)
    vertices: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    for axis in range(3):
        for sign in (-1, 1):
            # Place a grid on this side of the cube with sharp edges
            points = np.empty((count * count, 3))
            points[:, axis] = sign * half
            points[:, (axis + 1) % 3], points[:, (axis + 2) % 3] = side.T

            # Pull it onto the rounded surface, around the inner cube
            core = np.clip(points, -inner, inner)
            normal = points - core
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            faces.append((face if sign > 0 else face[:, ::-1]) + count * count * len(vertices))
            vertices.append(core + radius * normal)
            normals.append(normal)
    return Mesh(np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces))


def rounded_cylinder(half: float, width: float, radius: float) -> Mesh:
    """Make an upright cylinder, centered at the origin.

    Args:
        half: Half of its height.
        width: Radius of its circle.
        radius: Radius of its edges.

    Returns:
        The mesh.
    """
    # Draw the outline from the center of the lid down its edge, as distance from the axis, height, and normal
    outline = [(0.0, half, 0.0, 1.0)]
    for angle in np.linspace(0, math.pi / 2, CORNER + 1):
        sin, cos = math.sin(angle), math.cos(angle)
        outline.append((width - radius + radius * sin, half - radius + radius * cos, sin, cos))

    # Mirror it for the lower half
    for distance, height, out, up in reversed(outline.copy()):
        outline.append((distance, -height, out, -up))
    distances, heights, outs, ups = np.array(outline).T

    # Rotate it about the axis
    turns = np.linspace(0, 2 * math.pi, AROUND + 1)
    cosines, sines = np.cos(turns)[:, None], np.sin(turns)[:, None]
    shape = (AROUND + 1, len(outline))
    vertices = np.stack([cosines * distances, sines * distances, np.broadcast_to(heights, shape)], axis=-1)
    normals = np.stack([cosines * outs, sines * outs, np.broadcast_to(ups, shape)], axis=-1)
    return Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), faces=_grid(*shape)[:, ::-1])


def _grid(rows: int, columns: int) -> np.ndarray:
    """Two triangles, (m, 3) vertices, for each cell of a grid of vertices."""
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    below, right, opposite = first + columns, first + 1, first + columns + 1
    return np.concatenate(
        [np.stack([first, below, opposite], axis=1), np.stack([first, opposite, right], axis=1)]
    )
