"""Reader of JSON exports of Label Studio."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mdetr.data.phrase_search import locate_phrase
from mdetr.data.record import Record
from mdetr.data.sources.class_records import ClassBox, class_records
from mdetr.data.sources.converting import LeftOut, convert_entries, numbered
from mdetr.data.sources.fields import Fields, describe, inside, to_finite, to_list, to_text
from mdetr.data.sources.image_sizes import ImageSizes, find_image, is_image_name
from mdetr.data.sources.json_lists import iterate_entries
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box, Spans

TEXTS = ("caption", "text", "question", "expression")  # fields that are a task's text, in this order
RECTANGLES = frozenset({"rectanglelabels", "rectangle"})
POLYGONS = frozenset({"polygonlabels", "polygon"})
_LABELS = ("rectanglelabels", "polygonlabels", "labels")  # fields of a result that hold a region's labels
_SHAPES = frozenset(
    {
        *("brushlabels", "brush", "bitmask", "bitmasklabels", "ellipselabels", "ellipse"),
        *("keypointlabels", "keypoint", "vectorlabels", "vector"),
    }
)
_IMAGE_WORDS = re.compile("image|img|photo|picture", re.IGNORECASE)
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True, slots=True)
class _Region:
    """A region of an image: its box in pixels, and its words."""

    box: Box
    words: str


def read_label_studio(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    images: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read the tasks of a JSON export, each with its last annotation that was not canceled.

    A task with a text gives one record: the text that an annotator wrote for the image (a TextArea), or a
    field of its data named "caption", "text", "question" or "expression". A rectangle, or the box around a
    polygon, belongs to the words that its own text field (a TextArea for each region) says, else to those of
    its label; they have to be in the text. A task without a text gives a record for each label, with the
    label as the text.

    A task's image is its field "image", or else another that names an image. Of its address, the path counts:
    the file is looked for under as much of the path as there is in the folder of images, at last by its name
    there or in `images/`; the prefix that an upload gets ("1a2b3c4d-") may be missing. Tasks without an
    annotation, or with other shapes only, are left out.

    Args:
        root: The file, or a folder that holds SPLIT.json.
        split: Name of the split.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder in which images are looked for; the file's own if left out.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: There is no such file, or it is no such export.
        InvalidRecordError: A task breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    file = file / f"{split}.json" if file.is_dir() else file
    if not file.is_file():
        raise InvalidInputError(f"There is no file {file}; give a JSON export of Label Studio.")
    folder = images or file.parent
    sizes = ImageSizes(folder)

    def convert(entry: Any, where: str) -> list[Record | LeftOut]:
        task = Fields(entry)
        results = _last_results(task)
        if results is None:
            return [LeftOut("tasks without an annotation")]

        # Read the image and its regions
        image, width, height = sizes.locate(_find_task_image(task, folder), where)
        regions = _read_regions(results, width, height)
        others = sum(result.value("type", None) in _SHAPES for result in results)
        if not regions:
            return [LeftOut("tasks with other shapes only" if others else "tasks without a rectangle")]
        base = Record(
            source=file.stem,
            split=split,
            id=task.identifier("id"),
            image=image,
            image_id=image,
            width=width,
            height=height,
            text=_find_text(task.object("data"), results),
        )
        for region in regions:
            if not region.words:
                raise InvalidInputError("one of its regions has neither a label nor a text of its own")

        # Make one record for the text, or one for each class
        skipped = LeftOut("shapes that are neither rectangles nor polygons", others)
        if base.text:
            return [_with_boxes(base, regions), skipped]
        class_boxes = [ClassBox(region.words, region.box) for region in regions]
        return [*class_records(base, class_boxes), skipped]

    yield from convert_entries(numbered(iterate_entries(file), f"{file}, task"), convert, on_bad, left_out)


def _last_results(task: Fields) -> list[Fields] | None:
    """Return the results of the last annotation that was not canceled; None if there is none."""
    if "annotations" not in task:
        raise InvalidInputError(
            'a field is missing: "annotations"; export the reviewed project as JSON (not as JSON-MIN, and '
            "not the tasks that were imported into it)"
        )
    last: Fields | None = None
    for annotation in map(Fields, task.items("annotations")):
        if not annotation.flag("was_cancelled"):
            last = annotation
    return None if last is None else list(map(Fields, last.items("result")))


def _find_task_image(task: Fields, folder: Path) -> str:
    """Find the file of a task's image, relative to the folder."""
    data = task.value("data")
    if not isinstance(data, Mapping):
        raise InvalidInputError(f'its "data" must be an object with fields, got {describe(data)}')
    keys = _image_keys(data)
    if not keys:
        raise InvalidInputError(
            f"none of the fields of its data ({', '.join(map(str, data))}) names an image"
        )
    for key in keys:
        for candidate in _candidate_files(to_text(data[key], f'"{key}"')):
            image = find_image(folder, candidate)
            if image is not None:
                return image
    name = _path_parts(data[keys[0]])[-1:] or [str(data[keys[0]])]
    raise InvalidInputError(
        f"its image {name[0]} is not in {folder}; put the images beside the export, or name their folder "
        "with --images"
    )


def _image_keys(data: Mapping[str, Any]) -> list[str]:
    """List the fields of a task's data that may name its image, the most likely first."""
    likely: list[str] = ["image"] if "image" in data else []
    others: list[str] = []
    for key, value in data.items():
        if key != "image" and _names_image(value):
            (likely if _IMAGE_WORDS.search(key) else others).append(key)
    return [*likely, *others]


def _names_image(value: Any) -> bool:
    return isinstance(value, str) and (
        is_image_name(urlsplit(_slashes(value)).path) or "/data/local-files/" in value
    )


def _candidate_files(address: str) -> Iterator[str]:
    """Yield the paths at which the file of an image may be, the most likely first."""
    yield address.lstrip("/")
    parts = _path_parts(address)
    for start in range(len(parts)):
        yield "/".join(parts[start:])
    if parts:
        plain = _UPLOAD_PREFIX.sub("", parts[-1])
        yield from (plain, f"images/{parts[-1]}", f"images/{plain}")


def _path_parts(address: str) -> list[str]:
    """Split the path of an address (of a local file, an upload, a web page or a bucket) into its parts."""
    split = urlsplit(_slashes(address))
    path = split.path
    if "local-files" in path:  # such files are served as ?d=path
        for part in split.query.split("&"):
            if part.startswith("d="):
                path = part[2:]
                break
    return [part for part in unquote(path).replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _slashes(address: str) -> str:
    return address.replace("\\", "/")


def _find_text(data: Fields, results: Sequence[Fields]) -> str:
    """Return the text that an annotator wrote for the whole image, else that of the task; "" without both.

    A text that an annotator wrote under a name that is not in `TEXTS`, such as a comment, counts only where
    no text has one of these names.
    """
    # Collect the texts of annotators that belong to no region
    region_ids = {result.value("id", None) for result in results if _is_shape(result)}
    written: dict[str, str] = {}
    for result in results:
        if result.value("type", None) == "textarea" and result.value("id", None) not in region_ids:
            text = _join(result.object("value").value("text"), "text")
            if text:
                written.setdefault(str(result.value("from_name", "")), text)

    # Prefer the known names, in their order
    candidates: list[str] = []
    for key in TEXTS:
        of_task = data.optional_text(key) or ""
        candidates.append(written.get(key, "").strip() or of_task)
    for text in [*candidates, *written.values()]:
        if text.strip():
            return text
    return ""


def _read_regions(results: Sequence[Fields], width: int, height: int) -> list[_Region]:
    """Read each rectangle and polygon with its words: those of its text field, else its label."""
    # A region's shape, text and label are separate results with the same id
    texts: dict[Any, str] = {}
    labels: dict[Any, str] = {}
    for result in results:
        content = result.value("value", None)
        key = result.value("id", None)
        if not isinstance(content, Mapping) or not isinstance(key, str | int):
            continue  # a relation, or a choice for the whole image
        if result.value("type", None) == "textarea":
            texts.setdefault(key, _join(content.get("text"), "text"))
        for name in _LABELS:
            if name in content:
                labels.setdefault(key, _join(content[name], name))

    # Convert the shapes to boxes in pixels
    regions = []
    for result in results:
        kind = result.value("type", None)
        if kind in RECTANGLES or kind in POLYGONS:
            key = result.value("id", None)
            content = result.object("value")
            with inside(f"region {key!r}"):
                read_points = _read_corners if kind in RECTANGLES else _read_points
                box = _box_around(read_points(content, width, height), width, height)
            words = texts.get(key) or labels.get(key) or ""
            regions.append(_Region(box, words))
    return regions


def _is_shape(result: Fields) -> bool:
    kind = result.value("type", None)
    return kind in RECTANGLES or kind in POLYGONS or kind in _SHAPES


def _join(value: Any, name: str) -> str:
    """Join a text, or several texts, with single spaces; "" for null."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) else to_list(value, f'"{name}"')
    return " ".join(to_text(part, f'"{name}"').strip() for part in parts).strip()


def _with_boxes(base: Record, regions: Sequence[_Region]) -> Record:
    """Add the regions to a record, each with the span of its words in the text."""
    boxes: list[Box] = []
    spans: list[Spans] = []
    for region in regions:
        boxes.append(region.box)
        spans.append((locate_phrase(region.words, base.text),))
    return replace(base, boxes=tuple(boxes), spans=tuple(spans))


def _read_corners(value: Fields, width: int, height: int) -> list[tuple[float, float]]:
    """Read the corners, in pixels, of a rectangle in percent that is turned about its upper left corner."""
    x = to_finite(value.value("x"), "x") / 100 * width
    y = to_finite(value.value("y"), "y") / 100 * height
    w = to_finite(value.value("width"), "width") / 100 * width
    h = to_finite(value.value("height"), "height") / 100 * height
    angle = math.radians(to_finite(value.value("rotation", None) or 0, "rotation"))
    cos, sin = math.cos(angle), math.sin(angle)
    corners = []
    for dx, dy in ((0, 0), (0, h), (w, 0), (w, h)):
        corners.append((x + dx * cos - dy * sin, y + dx * sin + dy * cos))
    return corners


def _read_points(value: Fields, width: int, height: int) -> list[tuple[float, float]]:
    """Read the points, in pixels, of a polygon in percent of the image."""
    points = []
    for point in value.items("points"):
        pair = to_list(point, "point of a polygon")
        if len(pair) != 2:
            raise InvalidInputError('its "points" must be pairs of numbers')
        x, y = (to_finite(number, "point of a polygon") for number in pair)
        points.append((x / 100 * width, y / 100 * height))
    if not points:
        raise InvalidInputError('its "points" must be pairs of numbers')
    return points


def _box_around(points: Sequence[tuple[float, float]], width: int, height: int) -> Box:
    """Return the upright box around points, in pixels, clipped to the image."""
    columns, rows = zip(*points, strict=True)
    box = (
        max(min(columns), 0.0),
        max(min(rows), 0.0),
        min(max(columns), float(width)),
        min(max(rows), float(height)),
    )
    if not (box[0] < box[2] and box[1] < box[3]):
        raise InvalidInputError("it is outside its image, or empty")
    return box
