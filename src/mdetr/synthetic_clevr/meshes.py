"""Cubes and cylinders with rounded edges, as triangles with normals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

AROUND = 40  # corners of a cylinder's circle
CORNER = 4  # steps around an edge


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices, normals: (n, 3).
        faces: (m, 3), the numbers of their vertices, counterclockwise as seen from outside.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray


def rounded_cube(half: float, radius: float) -> Mesh:
    """A cube around the origin: half its side, and the radius of its edges."""
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
            points = np.empty((count * count, 3))
            points[:, axis] = sign * half
            points[:, (axis + 1) % 3], points[:, (axis + 2) % 3] = side.T
            core = np.clip(points, -inner, inner)
            normal = points - core
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            faces.append((face if sign > 0 else face[:, ::-1]) + count * count * len(vertices))
            vertices.append(core + radius * normal)
            normals.append(normal)
    return Mesh(np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces))


def rounded_cylinder(half: float, width: float, radius: float) -> Mesh:
    """An upright cylinder around the origin: half its height, the radius of its circle and of its edges."""
    angles = np.linspace(0, math.pi / 2, CORNER + 1)
    # The outline from the middle of the lid down its edge; the lower half is its mirror image.
    lid = [(0.0, half, 0.0, 1.0)]
    edge = [
        (
            width - radius + radius * math.sin(t),
            half - radius + radius * math.cos(t),
            math.sin(t),
            math.cos(t),
        )
        for t in angles
    ]
    upper = lid + edge
    outline = np.array(upper + [(r, -z, out, -up) for r, z, out, up in reversed(upper)])
    turns = np.linspace(0, 2 * math.pi, AROUND + 1)
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    r, z, out, up = outline.T
    vertices = np.stack([cos * r, sin * r, np.broadcast_to(z, (AROUND + 1, len(z)))], axis=-1)
    normals = np.stack([cos * out, sin * out, np.broadcast_to(up, (AROUND + 1, len(z)))], axis=-1)
    faces = _grid(AROUND + 1, len(z))[:, ::-1]
    return Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), faces)


def _grid(rows: int, columns: int) -> np.ndarray:
    """Two triangles for each cell of a grid of vertices."""
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    below, right, opposite = first + columns, first + 1, first + columns + 1
    return np.concatenate(
        [np.stack([first, below, opposite], axis=1), np.stack([first, opposite, right], axis=1)]
    )
