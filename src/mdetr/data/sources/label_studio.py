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
from mdetr.data.sources.converting import LeftOut, convert_entries
from mdetr.data.sources.fields import Fields, describe, inside, to_finite, to_list, to_text
from mdetr.data.sources.image_sizes import ImageSizes, find_image, is_image_name
from mdetr.data.sources.json_lists import iterate_entries
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box

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
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True, slots=True)
class _Named:
    """A region: its box in pixels, and its words."""

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
        root: The file, or a folder that holds SPLIT.json. split: the name of the part.
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
        image, width, height = sizes.locate(_find_image_of(task, folder), where)
        named = _named_boxes(results, width, height)
        others = sum(result.value("type", None) in _SHAPES for result in results)
        if not named:
            return [LeftOut("tasks with other shapes only" if others else "tasks without a rectangle")]
        base = Record(
            source=file.stem,
            split=split,
            id=task.identifier("id"),
            image=image,
            image_id=image,
            width=width,
            height=height,
            text=_text_of(task.object("data"), results),
        )
        if not all(region.words for region in named):
            raise InvalidInputError("one of its regions has neither a label nor a text of its own")
        passed_over = LeftOut("shapes that are neither rectangles nor polygons", others)
        if base.text:
            return [_with_boxes(base, named), passed_over]
        boxes = [ClassBox(region.words, region.box) for region in named]
        return [*class_records(base, boxes), passed_over]

    entries = enumerate(iterate_entries(file))
    places = ((f"{file}, task {number}", entry) for number, entry in entries)
    yield from convert_entries(places, convert, on_bad, left_out)


def _last_results(task: Fields) -> list[Fields] | None:
    """What the last annotation that counts consists of; None if there is no such annotation."""
    if "annotations" not in task:
        raise InvalidInputError(
            'a field is missing: "annotations"; export the project as JSON (not as JSON-MIN)'
        )
    annotations = [Fields(entry) for entry in task.items("annotations")]
    kept = [annotation for annotation in annotations if not annotation.flag("was_cancelled")]
    return [Fields(result) for result in kept[-1].items("result")] if kept else None


def _find_image_of(task: Fields, folder: Path) -> str:
    """The file of a task's image, relative to the folder."""
    data = task.value("data")
    if not isinstance(data, Mapping):
        raise InvalidInputError(f'its "data" must be an object with fields, got {describe(data)}')
    named = [key for key, value in data.items() if key != "image" and _names_image(value)]
    named.sort(key=lambda key: not any(word in key.lower() for word in ("image", "img", "photo", "picture")))
    keys = ["image", *named] if "image" in data else named
    if not keys:
        raise InvalidInputError(
            f"none of the fields of its data ({', '.join(map(str, data))}) names an image"
        )
    for key in keys:
        for candidate in _files_of(to_text(data[key], f'"{key}"')):
            found = find_image(folder, candidate)
            if found is not None:
                return found
    name = _path_parts(data[keys[0]])[-1:] or [str(data[keys[0]])]
    raise InvalidInputError(
        f"its image {name[0]} is not in {folder}; put the images beside the export, or name their folder "
        "with --images"
    )


def _names_image(value: Any) -> bool:
    return isinstance(value, str) and (
        is_image_name(urlsplit(_slashes(value)).path) or "/data/local-files/" in value
    )


def _files_of(address: str) -> Iterator[str]:
    """Where the file of an image may be, the likeliest place first."""
    yield address.lstrip("/")
    parts = _path_parts(address)
    for start in range(len(parts)):
        yield "/".join(parts[start:])
    if parts:
        plain = _UPLOAD_PREFIX.sub("", parts[-1])
        yield from (plain, f"images/{parts[-1]}", f"images/{plain}")


def _path_parts(address: str) -> list[str]:
    """The folders and the file that an address names: a local one, an upload's, a web page's, a bucket's."""
    split = urlsplit(_slashes(address))
    path = split.path
    if "local-files" in path:  # such files are served as ?d=path
        path = next((part[2:] for part in split.query.split("&") if part.startswith("d=")), path)
    return [part for part in unquote(path).replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _slashes(address: str) -> str:
    return address.replace("\\", "/")


def _text_of(data: Fields, results: Sequence[Fields]) -> str:
    """What an annotator wrote for the whole image, or what the task says; "" if neither does.

    An annotator's text of another name than `TEXTS`, such as a comment, counts only where there is none of
    these names.
    """
    regions = {result.value("id", None) for result in results if _is_shape(result)}
    written: dict[str, str] = {}
    for result in results:
        if result.value("type", None) == "textarea" and result.value("id", None) not in regions:
            text = _joined(result.object("value").value("text"), "text")
            if text:
                written.setdefault(str(result.value("from_name", "")), text)
    given = {key: data.optional_text(key) or "" for key in TEXTS}
    named = [written.get(key, "").strip() or given[key] for key in TEXTS]
    return next((text for text in [*named, *written.values()] if text.strip()), "")


def _named_boxes(results: Sequence[Fields], width: int, height: int) -> list[_Named]:
    """Each rectangle and polygon with its words: those of its own text field, else its label."""
    texts: dict[Any, str] = {}
    labels: dict[Any, str] = {}
    for result in results:
        content = result.value("value", None)
        key = result.value("id", None)
        if not isinstance(content, Mapping) or not isinstance(key, str | int):
            continue  # a relation, or a choice for the whole image
        if result.value("type", None) == "textarea":
            texts.setdefault(key, _joined(content.get("text"), "text"))
        for name in _LABELS:
            if name in content:
                labels.setdefault(key, _joined(content[name], name))
    named = []
    for result in results:
        kind = result.value("type", None)
        if kind in RECTANGLES or kind in POLYGONS:
            key = result.value("id", None)
            content = result.object("value")
            with inside(f"region {key!r}"):
                corners_of = _corners if kind in RECTANGLES else _points
                box = _box_around(corners_of(content, width, height), width, height)
            words = texts.get(key) or labels.get(key) or ""
            named.append(_Named(box, words))
    return named


def _is_shape(result: Fields) -> bool:
    kind = result.value("type", None)
    return kind in RECTANGLES or kind in POLYGONS or kind in _SHAPES


def _joined(value: Any, name: str) -> str:
    """A text, or texts put together; "" for null."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) else to_list(value, f'"{name}"')
    return " ".join(to_text(part, f'"{name}"').strip() for part in parts).strip()


def _with_boxes(base: Record, named: Sequence[_Named]) -> Record:
    return replace(
        base,
        boxes=tuple(region.box for region in named),
        spans=tuple((locate_phrase(region.words, base.text),) for region in named),
    )


def _corners(value: Fields, width: int, height: int) -> list[tuple[float, float]]:
    """A rectangle, in per cent of the image, turned about its upper left corner -> its corners in pixels."""
    x, y = (to_finite(value.value(name), name) for name in ("x", "y"))
    w, h = (to_finite(value.value(name), name) for name in ("width", "height"))
    x, w, y, h = x / 100 * width, w / 100 * width, y / 100 * height, h / 100 * height
    angle = math.radians(to_finite(value.value("rotation", None) or 0, "rotation"))
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx in (0, w) for dy in (0, h)]


def _points(value: Fields, width: int, height: int) -> list[tuple[float, float]]:
    """A polygon, in per cent of the image -> its corners in pixels."""
    points = [to_list(point, "point of a polygon") for point in value.items("points")]
    if not points or any(len(point) != 2 for point in points):
        raise InvalidInputError('its "points" must be pairs of numbers')
    return [
        (to_finite(x, "point of a polygon") / 100 * width, to_finite(y, "point of a polygon") / 100 * height)
        for x, y in points
    ]


def _box_around(points: Sequence[tuple[float, float]], width: int, height: int) -> Box:
    """The upright box around some points, in pixels, cut at the border of the image."""
    columns, rows = [x for x, _ in points], [y for _, y in points]
    box = (
        *(max(min(columns), 0.0), max(min(rows), 0.0)),
        *(min(max(columns), float(width)), min(max(rows), float(height))),
    )
    if not (box[0] < box[2] and box[1] < box[3]):
        raise InvalidInputError("it is outside its image, or empty")
    return box
