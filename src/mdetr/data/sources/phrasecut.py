"""PhraseCut (phrases with boxes and polygons) in; a record for each phrase out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdetr.data.record import Record
from mdetr.data.sources.coco import clamp_box
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.json_lists import iterate_entries
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.rle import encode_polygons

SOURCE = "phrasecut"
KEPT = ("task_id", "ann_ids", "phrase_structure")


def read_phrasecut(root: str | Path, split: str, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Read the phrases of one split.

    A record has a box and a mask for each instance, all tied to the whole phrase. Its structure (name,
    attributes, relations) is in `extra`, for scores of subsets. Images are named images/ID.jpg.

    Args:
        root: the folder with refer_SPLIT.json and image_data_split3000.json (or image_data_split.json).
        split: train, val, miniv or test.
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.

    Raises:
        InvalidInputError: a file is missing or damaged.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.3.
    """
    folder = Path(root)
    file = folder / f"refer_{split}.json"
    sizes = _read_sizes(folder)

    def convert(task: Mapping[str, Any], where: str) -> list[Record]:
        image = int(task["image_id"])
        if image not in sizes:
            raise InvalidRecordError(f"{where}: image {image} is not in the list of images.")
        return [_to_record(task, image, *sizes[image], split, where)]

    entries = enumerate(iterate_entries(file))
    yield from convert_entries(((f"{file}, entry {n}", entry) for n, entry in entries), convert, on_bad)


def _read_sizes(folder: Path) -> dict[int, tuple[int, int]]:
    files = [folder / name for name in ("image_data_split3000.json", "image_data_split.json")]
    file = next((file for file in files if file.is_file()), files[0])
    try:
        return {
            int(entry["image_id"]): (int(entry["width"]), int(entry["height"]))
            for entry in iterate_entries(file)
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{file} is no list of images with their sizes ({error!r}).") from None


def _to_record(
    task: Mapping[str, Any], image: int, width: int, height: int, split: str, where: str
) -> Record:
    text = str(task["phrase"])
    if len(task["instance_boxes"]) != len(task["Polygons"]):
        raise InvalidRecordError(f"{where}: it has not as many polygons as boxes.")
    things = []
    for bbox, polygons in zip(task["instance_boxes"], task["Polygons"], strict=True):
        box = clamp_box(bbox, width, height)
        if box is not None:
            things.append((box, _mask(polygons, height, width, where)))
    return Record(
        source=SOURCE,
        split=split,
        id=str(task["task_id"]),
        image=f"images/{image}.jpg",
        image_id=str(image),
        width=width,
        height=height,
        text=text,
        boxes=tuple(box for box, _ in things),
        spans=tuple(((0, len(text)),) for _ in things),
        masks=tuple(mask for _, mask in things),
        extra=json.dumps({key: task[key] for key in KEPT if key in task}),
    )


def _mask(polygons: Sequence[Sequence[Sequence[float]]], height: int, width: int, where: str) -> bytes:
    """Polygons of points x, y -> COCO compressed RLE counts; lines and points are left out."""
    flat = [
        [float(value) for point in polygon for value in point] for polygon in polygons if len(polygon) > 2
    ]
    if not flat:
        raise InvalidRecordError(f"{where}: an instance has no polygon.")
    return encode_polygons(flat, height, width)
