"""Formats of this package: JSON Lines, and stores for training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mdetr.data.record import Record
from mdetr.data.sources.class_records import ClassBox, class_records
from mdetr.data.store import write_store
from mdetr.files import atomic_write
from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.results import ImageLabels

_SOURCE = "labels"
_SPLIT = "train"


def write_json_lines(data: LabeledData) -> str:
    """Write `labels.jsonl`, with a line for each caption, or for each class of an image.

    Args:
        data: The labels.

    Returns:
        Name of the file.
    """
    with atomic_write(data.folder / "labels.jsonl") as path, open(path, "w", encoding="utf-8") as file:
        for record in _records(data):
            line: dict[str, Any] = {
                "id": record.id,
                "image": record.image,
                "text": record.text,
                "boxes": [[round(value, 2) for value in box] for box in record.boxes],
                "phrases": record.spans,
                **json.loads(record.extra or "{}"),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return "labels.jsonl"


def write_label_store(data: LabeledData) -> str:
    """Write `store/`, a store for training with a record for each caption, or for each class of an image.

    Args:
        data: The labels.

    Returns:
        Name of the folder.
    """
    write_store(data.folder / "store", _records(data), data.folder, overwrite=True)
    return "store"


def _records(data: LabeledData) -> Iterator[Record]:
    """Yield the labels as records; images are relative to the folder of the data set."""
    previous, number = "", 0
    for labels in data.usable_images():
        # Number the captions of an image
        number = number + 1 if labels.image == previous else 1
        previous = labels.image
        if labels.text is None:
            yield from _class_records(labels)
        else:
            yield _caption_record(labels, number)


def _class_records(labels: ImageLabels) -> Iterator[Record]:
    base = _base_record(labels, labels.image)
    accepted = labels.accepted
    boxes = [ClassBox(row.name, row.box) for row in accepted]
    for record in class_records(base, boxes):
        # Add the scores of its class
        name = record.id.removeprefix(f"{base.id}-")
        scores = [round(row.score, 4) for row in accepted if row.name == name]
        yield replace(record, extra=json.dumps({"scores": scores}))


def _caption_record(labels: ImageLabels, number: int) -> Record:
    accepted = labels.accepted
    record = _base_record(labels, f"{labels.image}-{number}")
    return replace(
        record,
        boxes=tuple(row.box for row in accepted),
        spans=tuple(row.spans for row in accepted),
        extra=json.dumps({"scores": [round(row.score, 4) for row in accepted]}),
    )


def _base_record(labels: ImageLabels, record_id: str) -> Record:
    return Record(
        source=_SOURCE,
        split=_SPLIT,
        id=record_id,
        image=f"images/{labels.image}",
        image_id=labels.image,
        width=labels.width,
        height=labels.height,
        text=labels.text or "",
    )
