"""A JSON export of Label Studio (rectangles with labels, texts) in; records out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from mdetr.data.record import Box, Record
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lines import find_phrase
from mdetr.data.sources.json_lists import iterate_entries
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError

TEXTS = ("caption", "text", "question", "expression")  # fields of a task that are its text, in this order
RECTANGLES = ("rectanglelabels", "rectangle")


def read_label_studio(root: str | Path, split: str, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Read the tasks of a JSON export, each with its last annotation that was not cancelled.

    A task with a text ("caption", "text", "question" or "expression" in its data) gives one record. A
    rectangle belongs to the words that its own text field (a TextArea for each region) says, else to those of
    its label; they have to be in the text. A task without a text gives a record for each label, with the
    label as the text. Images are found by their file's name in the folder of the export or in its `images`;
    the prefix that an upload gets ("1a2b3c4d-") may be missing there.

    Args:
        root: the file, or a folder that holds SPLIT.json. split: the name of the part.
        on_bad: called with the error of each task that breaks a rule, which is then left out; None to stop.

    Raises:
        InvalidInputError: there is no such file, or it is no such export.
        InvalidRecordError: a task breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    file = file / f"{split}.json" if file.is_dir() else file
    if not file.is_file():
        raise InvalidInputError(f"There is no file {file}; give a JSON export of Label Studio.")
    size_of = ImageSizes(file.parent)

    def convert(task: Mapping[str, Any], where: str) -> list[Record]:
        image = _image_of(task, file.parent, where)
        width, height = size_of(image, where)
        base = Record(
            source=file.stem,
            split=split,
            id=str(task["id"]),
            image=image,
            image_id=image,
            width=width,
            height=height,
            text=next((str(task["data"][key]) for key in TEXTS if task["data"].get(key)), ""),
        )
        named = _named_boxes(_regions(task), width, height, where)
        if base.text:
            return [_with_boxes(base, named, where)]
        return [
            _with_boxes(
                replace(base, id=f"{base.id}-{name}", text=name), [n for n in named if n[1] == name], where
            )
            for name in dict.fromkeys(name for _, name in named)
        ]

    entries = enumerate(iterate_entries(file))
    yield from convert_entries(((f"{file}, task {n}", entry) for n, entry in entries), convert, on_bad)


def _image_of(task: Mapping[str, Any], folder: Path, where: str) -> str:
    place = urlparse(str(task["data"]["image"]))
    inside = place.query.removeprefix("d=") or place.path  # local files are served as ?d=path
    name = PurePosixPath(unquote(inside)).name
    _, _, plain = name.partition("-")
    for candidate in (unquote(inside).lstrip("/"), name, plain, f"images/{name}", f"images/{plain}"):
        if candidate and (folder / candidate).is_file():
            return candidate
    raise InvalidRecordError(
        f"{where}: its image {name} is not in {folder}; put the images beside the export."
    )


def _regions(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    annotations = [entry for entry in task["annotations"] if not entry.get("was_cancelled")]
    return list(annotations[-1]["result"]) if annotations else []


def _named_boxes(
    regions: Sequence[Mapping[str, Any]], width: int, height: int, where: str
) -> list[tuple[Box, str]]:
    """Each rectangle with its words: those of its own text field, else its label."""
    words = {region.get("id"): region["value"]["text"] for region in regions if "text" in region["value"]}
    named = []
    for region in regions:
        if region["type"] in RECTANGLES:
            said = words.get(region.get("id")) or region["value"].get("rectanglelabels") or ""
            box = _to_box(region, width, height, where)
            named.append((box, said if isinstance(said, str) else " ".join(said)))
    return named


def _with_boxes(base: Record, named: Sequence[tuple[Box, str]], where: str) -> Record:
    return replace(
        base,
        boxes=tuple(box for box, _ in named),
        spans=tuple((find_phrase(words, base.text, where),) for _, words in named),
    )


def _to_box(region: Mapping[str, Any], width: int, height: int, where: str) -> Box:
    """Per cent of the image, turned about the upper left corner -> the upright box around it, in pixels."""
    value = region["value"]
    x, y = float(value["x"]) / 100 * width, float(value["y"]) / 100 * height
    w, h = float(value["width"]) / 100 * width, float(value["height"]) / 100 * height
    angle = math.radians(float(value.get("rotation") or 0))
    corners = [
        (dx * math.cos(angle) - dy * math.sin(angle), dx * math.sin(angle) + dy * math.cos(angle))
        for dx in (0, w)
        for dy in (0, h)
    ]
    columns, rows = [x + dx for dx, _ in corners], [y + dy for _, dy in corners]
    box = (max(min(columns), 0.0), max(min(rows), 0.0), min(max(columns), width), min(max(rows), height))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise InvalidRecordError(f"{where}: rectangle {region.get('id')!r} is outside its image, or empty.")
    return box
