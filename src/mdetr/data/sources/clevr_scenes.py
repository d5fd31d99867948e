"""Reader of CLEVR's scene files: the objects of an image with their boxes in pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdetr.data.sources.annotations import clamp_box
from mdetr.data.sources.converting import numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, inside, to_finite, to_list
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box

WIDTH, HEIGHT = 480, 320  # of the released images
FOCAL_LENGTH = WIDTH * 35 / 32  # pixels: Blender's camera of 35 mm and a sensor 32 mm wide
CUBE = 0.95  # width of a cube, whose edges are rounded, as a fraction of its height in the files
_FARTHEST = 1e6  # pixels or units of the scene
_NEEDED = (
    "a scene's objects each need a \"bbox\" of x0, y0, x1, y1 in pixels, or CLEVR's 3d_coords, pixel_coords, "
    "rotation and shape"
)
_START = (2.43, 0.5, 11.4)  # of the camera before it was moved: azimuth and tilt in radians, distance
_CIRCLE = [(math.cos(angle), math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 32, endpoint=False)]
_CORNERS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]


@dataclass(frozen=True, slots=True)
class ClevrScene:
    """A scene and its objects.

    Attributes:
        image: File name of the image.
        width: Its width in pixels.
        height: Its height in pixels.
        objects: The objects as in the file.
        relationships: The relations between the objects as in the file.
        boxes: One for each object; None for an object outside the image.
    """

    image: str
    width: int
    height: int
    objects: Sequence[Mapping[str, Any]] = ()
    relationships: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    boxes: Sequence[Box | None] = ()


class ClevrScenes(AbstractContextManager["ClevrScenes"]):
    """The scenes of one split by the index of their image; only the last is held in memory."""

    def __init__(self, file: Path, image_folder: Path, on_bad: OnBad | None = None) -> None:
        """Read the file, and index its scenes on disk.

        Args:
            file: File with the scenes.
            image_folder: Folder of the split's images, for sizes of scenes that have boxes.
            on_bad: Called with the error of each scene that breaks a rule; None to stop.

        Raises:
            InvalidInputError: The file is missing or damaged.
            InvalidRecordError: A scene breaks a rule, and `on_bad` is None.
        """
        self._file = file
        self._size_of = ImageSizes(image_folder)
        scenes = numbered(iterate_list(file, "scenes"), f"{file}, entry")
        self._index = EntryIndex(read_entries(scenes, _check_scene, on_bad))
        self._last: tuple[int, ClevrScene] | None = None

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def of(self, image_index: int, where: str) -> ClevrScene:
        """Return the scene of an image.

        Args:
            image_index: Index of the image in the split.
            where: File and entry, for messages.

        Returns:
            The scene.

        Raises:
            InvalidRecordError: There is no such scene, or its image is missing.
        """
        if self._last is None or self._last[0] != image_index:
            entries = self._index.of(image_index)
            if not entries:
                raise InvalidRecordError(
                    f"{where}: {self._file} has no scene with image_index {image_index}."
                )
            self._last = image_index, self._to_scene(entries[0], where)
        return self._last[1]

    def _to_scene(self, entry: Mapping[str, Any], where: str) -> ClevrScene:
        image, objects = entry["image_filename"], entry["objects"]
        if all("bbox" in thing for thing in objects):
            width, height = self._size_of(image, where)
            boxes: list[Box | None] = [_to_box(thing["bbox"]) for thing in objects]
        else:
            width, height = WIDTH, HEIGHT
            boxes = project_boxes(entry)
        return ClevrScene(image, width, height, objects, entry.get("relationships", {}), boxes)


def project_boxes(scene: Mapping[str, Any]) -> list[Box | None]:
    """Project the box of each object of a released scene, hidden parts included.

    The files do not record the camera, which was moved a little for each image and looks at the middle of the
    ground: its azimuth, tilt and distance are fitted to the positions of the objects' centers in the image
    and in depth. The outlines of the objects are then projected.

    An object's `rotation` is in radians, although CLEVR drew it from 0 to 360: its renderer used the number
    unchanged. The edges of cubes are rounded, which makes a cube a little narrower than its recorded size.

    Args:
        scene: A scene as in the file.

    Returns:
        One box in pixels for each object; None for an object outside the image.
    """
    from scipy.optimize import least_squares  # slow to load, and few scenes need it

    # Fit the camera
    centers = np.array([thing["3d_coords"] for thing in scene["objects"]], dtype=np.float64)
    pixels = np.array([thing["pixel_coords"] for thing in scene["objects"]], dtype=np.float64)
    scale = np.array([1, 1, FOCAL_LENGTH / _START[2]])  # weights depth like a distance in the image
    fitted = least_squares(lambda camera: ((_project(centers, camera) - pixels) * scale).ravel(), _START)

    # Project the outlines
    boxes = []
    for thing, center in zip(scene["objects"], centers, strict=True):
        outline = _outline(str(thing["shape"]), float(center[2]), float(thing["rotation"]))
        outline = _project(center + outline, fitted.x)
        (x0, y0), (x1, y1) = outline[:, :2].min(0), outline[:, :2].max(0)
        boxes.append(clamp_box([x0, y0, x1 - x0, y1 - y0], WIDTH, HEIGHT))
    return boxes


def _project(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Project world points (n, 3) to (n, 3): column and row in pixels, and depth."""
    azimuth, tilt, distance = camera
    behind = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    above = np.array([0.0, 0.0, 1.0])
    depth = points @ (math.cos(tilt) * behind - math.sin(tilt) * above) + distance
    columns = WIDTH / 2 + FOCAL_LENGTH * (points @ right) / depth
    rows = HEIGHT / 2 - FOCAL_LENGTH * (points @ (math.sin(tilt) * behind + math.cos(tilt) * above)) / depth
    return np.stack([columns, rows, depth], axis=1)


def _outline(shape: str, half: float, turn: float) -> np.ndarray:
    """Compute points that span the outline of an object.

    Args:
        shape: Shape of the object.
        half: Half of its size, in units of the scene.
        turn: Rotation around the vertical axis, in radians.

    Returns:
        (n, 3) points relative to the center of the object.
    """
    points: list[tuple[float, float, float]] = []
    if shape == "sphere":
        # Circles of latitude
        for latitude in np.linspace(-math.pi / 2, math.pi / 2, 17):
            for x, y in _CIRCLE:
                points.append((math.cos(latitude) * x, math.cos(latitude) * y, math.sin(latitude)))
    else:
        # The base and the top of a prism or cylinder
        base, side = (_CORNERS, CUBE) if shape == "cube" else (_CIRCLE, 1.0)
        for x, y in base:
            points += [(side * x, side * y, -side), (side * x, side * y, side)]
    cos, sin = math.cos(turn), math.sin(turn)
    return half * np.array([(cos * x - sin * y, sin * x + cos * y, z) for x, y, z in points])


def _check_scene(entry: Any) -> tuple[int, Any]:
    """Return a scene with the index of its image after checking the fields that `ClevrScenes` requires."""
    fields = Fields(entry)
    number = fields.whole("image_index")
    objects = [Fields(thing) for thing in fields.items("objects")]
    has_boxes = all("bbox" in thing for thing in objects)
    for index, thing in enumerate(objects):
        with inside(f"object {index}"):
            if has_boxes:
                _numbers(thing, "bbox", 4)
                continue
            try:
                _numbers(thing, "3d_coords", 3)
                _numbers(thing, "pixel_coords", 3)
                to_finite(thing.value("rotation"), '"rotation"')
                thing.text("shape")
            except InvalidInputError as error:
                raise InvalidInputError(f"{error}; {_NEEDED}") from None
    fields.text("image_filename")
    return number, entry


def _numbers(thing: Fields, name: str, count: int) -> list[float]:
    values = [to_finite(value, f'"{name}"') for value in to_list(thing.value(name), f'"{name}"')]
    if any(abs(value) > _FARTHEST for value in values):
        raise InvalidInputError(f'its "{name}" is farther away than anything in an image')
    if len(values) != count:
        raise InvalidInputError(f'its "{name}" must be {count} numbers, got {len(values)}')
    return values


def _to_box(values: Sequence[float]) -> Box:
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1
