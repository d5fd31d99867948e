"""COCO detection format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from mdetr.files import atomic_write
from mdetr.labeling.labeled_data import LabeledData


def write_coco(data: LabeledData) -> str:
    """Write `coco.json`, with a score for each annotation and image paths relative to the file.

    Args:
        data: The labels.

    Returns:
        Name of the file.
    """
    categories = []
    for number, name in enumerate(data.class_names, start=1):
        categories.append({"id": number, "name": name})

    # Write entry by entry, since the file may be larger than the memory
    with atomic_write(data.folder / "coco.json") as path, open(path, "w", encoding="utf-8") as file:
        file.write('{"images": [')
        _write_items(file, _images(data))
        file.write('],\n"annotations": [')
        _write_items(file, _annotations(data))
        file.write(f'],\n"categories": {json.dumps(categories, ensure_ascii=False)}}}\n')
    return "coco.json"


def _images(data: LabeledData) -> Iterator[dict[str, Any]]:
    for number, labels in enumerate(data.usable_images(), start=1):
        file_name = f"images/{labels.image}"
        yield {"id": number, "file_name": file_name, "width": labels.width, "height": labels.height}


def _annotations(data: LabeledData) -> Iterator[dict[str, Any]]:
    numbers = {name: number for number, name in enumerate(data.class_names, start=1)}
    annotation_id = 0
    for image_id, labels in enumerate(data.usable_images(), start=1):
        for entry in labels.accepted.to_coco(image_id, numbers):
            annotation_id += 1
            _, _, width, height = entry["bbox"]
            yield {"id": annotation_id, **entry, "area": width * height, "iscrowd": 0}


def _write_items(file: TextIO, items: Iterator[dict[str, Any]]) -> None:
    """Write the items of a JSON list, one on each line."""
    separator = "\n"
    for item in items:
        file.write(separator + json.dumps(item, ensure_ascii=False))
        separator = ",\n"
