"""Reader of PhraseCut: one record for each phrase."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdetr.data.record import Record
from mdetr.data.sources.annotations import NO_AREA, clamp_box
from mdetr.data.sources.converting import LeftOut, convert_entries, numbered, read_entries
from mdetr.data.sources.fields import Fields, inside, to_list
from mdetr.data.sources.json_lists import iterate_entries
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box
from mdetr.processing.rle import encode_polygons

SOURCE = "phrasecut"
KEPT = ("task_id", "ann_ids", "phrase_structure")


def read_phrasecut(
    root: str | Path, split: str, on_bad: OnBad | None = None, left_out: Counter[str] | None = None
) -> Iterator[Record]:
    """Read the phrases of one split.

    A record has a box and a mask for each instance, all tied to the whole phrase. Its structure (name,
    attributes, relations) is in `extra`, for scores of subsets. Images are named images/ID.jpg.

    Args:
        root: The folder with refer_SPLIT.json and image_data_split3000.json (or image_data_split.json).
        split: Train, val, miniv or test.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: A file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.3.
    """
    folder = Path(root)
    file = folder / f"refer_{split}.json"
    sizes = _read_sizes(folder, on_bad)

    def convert(task: Any, where: str) -> list[Record | LeftOut]:
        fields = Fields(task)
        image = fields.identifier("image_id")
        if image not in sizes:
            raise InvalidRecordError(f"{where}: image {image} is not in the list of images.")
        return _to_record(fields, image, *sizes[image], split)

    entries = numbered(iterate_entries(file), f"{file}, entry")
    yield from convert_entries(entries, convert, on_bad, left_out)


def _read_sizes(folder: Path, on_bad: OnBad | None) -> dict[str, tuple[int, int]]:
    """Read the width and height of each image, by its id."""
    file = folder / "image_data_split3000.json"
    other = folder / "image_data_split.json"
    if not file.is_file() and other.is_file():
        file = other
    return dict(read_entries(numbered(iterate_entries(file), f"{file}, entry"), _read_size, on_bad))


def _read_size(entry: Any) -> tuple[str, tuple[int, int]]:
    fields = Fields(entry)
    return fields.identifier("image_id"), fields.size()


def _to_record(task: Fields, image: str, width: int, height: int, split: str) -> list[Record | LeftOut]:
    """Convert a phrase to its record, and count its instances without area."""
    text = task.text("phrase")
    bboxes, outlines = task.items("instance_boxes"), task.items("Polygons")
    if len(bboxes) != len(outlines):
        raise InvalidInputError("it has not as many polygons as boxes")

    # Convert the instances that have an area in the image
    boxes: list[Box] = []
    masks: list[bytes] = []
    for index, (bbox, polygons) in enumerate(zip(bboxes, outlines, strict=True)):
        with inside(f"instance {index}"):
            box = clamp_box(bbox, width, height)
            if box is not None:
                masks.append(_encode_mask(polygons, height, width))
                boxes.append(box)

    record = Record(
        source=SOURCE,
        split=split,
        id=task.identifier("task_id"),
        image=f"images/{image}.jpg",
        image_id=image,
        width=width,
        height=height,
        text=text,
        boxes=tuple(boxes),
        spans=(((0, len(text)),),) * len(boxes),
        masks=tuple(masks),
        extra=json.dumps({key: task.value(key) for key in KEPT if key in task}),
    )
    return [record, LeftOut(NO_AREA, len(bboxes) - len(boxes))]


def _encode_mask(polygons: Any, height: int, width: int) -> bytes:
    """Encode polygons of points x, y as COCO compressed RLE counts; lines and points are left out."""
    outlines: list[list[Any]] = []
    for polygon in to_list(polygons, '"Polygons"'):
        coordinates: list[Any] = []
        for point in to_list(polygon, "polygon"):
            pair = to_list(point, "point")
            if len(pair) != 2:
                raise InvalidInputError("a point of its polygons must be x, y")
            coordinates.extend(pair)
        outlines.append(coordinates)
    return encode_polygons(outlines, height, width)
