"""Average precision of detection by class name (LVIS, COCO, "fixed AP")."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record
from mdetr.data.sources.converting import numbered, read_entries
from mdetr.data.sources.fields import Fields
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import Store
from mdetr.errors import InvalidInputError
from mdetr.evaluation.distributed import RecordRows, gather_rows, hash_of
from mdetr.evaluation.example_scores import ExampleScore
from mdetr.evaluation.metrics.average_precision import (
    FREQUENCIES,
    Boxes,
    EvaluatedPairs,
    detection_average_precision,
)
from mdetr.evaluation.metrics.contract import paired
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction

_DIGITS = 18  # of a number that 64 bits hold
PER_IMAGE = 300  # detections that the LVIS API looks at
PER_CLASS = 10_000  # detections over the whole set that "fixed AP" looks at (arXiv 2102.01066)


@dataclass(frozen=True)
class NamedClass:
    """A class of a data set; frequency: r, c or f where it is told, else ""."""

    number: int
    name: str
    frequency: str = ""


def class_of(record: Record) -> tuple[NamedClass, bool | None]:
    """The class that a record asks for, and whether all its boxes are annotated; None: the data are complete.

    Raises:
        InvalidInputError: the record does not ask for a class.
    """
    fields = protocol_fields(record)
    if fields.category_id is not None:
        named = NamedClass(fields.category_id, fields.name or record.text, fields.frequency)
        return named, fields.exhaustive
    if record.category_ids:
        return NamedClass(record.category_ids[0], record.text), None
    raise InvalidInputError(
        f"Record {record.id!r} of source {record.source!r} asks for no class; "
        "score a store that was imported from coco or lvis."
    )


def classes_of(store: Store) -> list[NamedClass]:
    """All classes that a store's records ask for, by number."""
    found: dict[int, NamedClass] = {}
    for record in store:
        named, _ = class_of(record)
        found[named.number] = named
    return [found[number] for number in sorted(found)]


def read_classes(file: Path) -> list[NamedClass]:
    """All classes of an annotation file in COCO's or LVIS's format, by number.

    Raises:
        InvalidInputError: the file is missing or damaged.
        InvalidRecordError: a category has no number or no name.
    """
    categories = numbered(iterate_list(file, "categories"), f"{file}, category")
    return sorted(read_entries(categories, _read_class, None), key=lambda named: named.number)


def _read_class(entry: Any) -> NamedClass:
    fields = Fields(entry)
    return NamedClass(fields.whole("id"), fields.text("name"), fields.optional_text("frequency") or "")


class DetectionMetric:
    """Average precision of boxes that were found for every class of a data set in every image.

    Where the data tell for some classes only whether an image shows them (LVIS), other classes do not count
    in that image, and the figures are those of the LVIS API, with 300 detections an image, and "fixed" ones,
    with 10,000 detections a class over the whole set instead. Otherwise they are COCO's.

    Source: arXiv 2104.12763, section 4.2.4; arXiv 1908.03195; arXiv 2102.01066 (fixed AP).
    """

    def __init__(self, classes: Sequence[NamedClass]) -> None:
        """Start without any image.

        Args:
            classes: that are looked for.

        Raises:
            InvalidInputError: two of them have one name.
        """
        self._classes = classes
        self._number_of = {named.name: named.number for named in classes}
        if len(self._number_of) < len(classes):
            counts = Counter(named.name for named in classes)
            raise InvalidInputError(
                f"Two classes have the name {counts.most_common(1)[0][0]!r}; give each class its own."
            )
        self._asked = RecordRows(columns=3, dtype=np.int64)  # image, class, exhaustive (-1: complete data)
        self._true = RecordRows(columns=2, dtype=np.int64)  # image, class
        self._true_boxes = RecordRows(columns=6)  # corners, area, whether it is a crowd
        self._of_images: list[Boxes] = []
        self._of_classes = _Best(PER_CLASS)

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Score some images.

        Args:
            predictions: of each record's image, for all classes, with labels; the records of an image share
                theirs.
            records: all of these images, one for each class that is known to be in an image or not.

        Returns:
            Nothing: the precision is one of all images.

        Raises:
            InvalidInputError: there are more or fewer records than predictions, or these have no labels.
        """
        scored: set[int] = set()
        for prediction, record in paired(predictions, records):
            image = image_number(record)
            self._add_truth(image, record)
            if image not in scored:
                self._add_detections(image, prediction.detections)
                scored.add(image)
        return []

    def _add_truth(self, image: int, record: Record) -> None:
        named, exhaustive = class_of(record)
        asked = [image, named.number, -1 if exhaustive is None else int(exhaustive)]
        self._asked.add(record, np.array([asked]))
        fields = protocol_fields(record)
        corners = np.array(record.boxes, dtype=np.float32).reshape(-1, 4)
        areas = fields.areas or np.prod(corners[:, 2:] - corners[:, :2], axis=1)
        crowds = np.array(fields.crowds, dtype=np.float32).reshape(-1, 5)  # class and corners
        numbers = np.concatenate([np.full(len(corners), named.number), crowds[:, 0]]).astype(np.int64)
        sides = crowds[:, 3:] - crowds[:, 1:3]
        rows = np.concatenate(
            [np.column_stack([corners, areas]), np.column_stack([crowds[:, 1:], sides.prod(1)])]
        )
        self._true.add(record, np.column_stack([np.full_like(numbers, image), numbers]))
        self._true_boxes.add(record, np.column_stack([rows, np.arange(len(rows)) >= len(corners)]))

    def _add_detections(self, image: int, found: Detections) -> None:
        if found.labels is None:
            raise InvalidInputError("Detection by name needs the class of each box; these have no labels.")
        known = np.array([label in self._number_of for label in found.labels], dtype=bool)
        numbers = [self._number_of[label] for label in found.labels if label in self._number_of]
        classes = np.array(numbers, dtype=np.int64)
        boxes = Boxes(np.full_like(classes, image), classes, found.boxes_xyxy[known], found.scores[known])
        best = np.argsort(-boxes.values, kind="stable")[:PER_IMAGE]
        self._of_images.append(boxes.select(best))
        self._of_classes.add(boxes)

    def compute(self) -> dict[str, float]:
        """Put the scores of all processes together; every process must call this at the same time.

        Returns:
            AP, AP50, AP75, APs, APm, APl, AR, ARs, ARm, ARl; with APr, APc, APf and the same beginning with
            "fixed_" where some classes are not told of every image. Nothing where nothing was scored.
        """
        _, asked = self._asked.merged()
        _, true = self._true.merged()
        _, true_boxes = self._true_boxes.merged()
        of_images = _gathered(self._of_images)
        of_classes = self._of_classes.gathered()
        if not len(asked):
            return {}
        truth = Boxes(true[:, 0], true[:, 1], true_boxes[:, :4], true_boxes[:, 4], true_boxes[:, 5] > 0)
        if (asked[:, 2] < 0).any():
            images, classes = np.unique(asked[:, 0]), np.array([named.number for named in self._classes])
            pairs = np.stack(np.meshgrid(images, classes, indexing="ij"), -1).reshape(-1, 2)
            every = EvaluatedPairs(pairs[:, 0], pairs[:, 1], np.ones(len(pairs), dtype=bool))
            return detection_average_precision(of_classes, truth, every, {})
        known = EvaluatedPairs(asked[:, 0], asked[:, 1], asked[:, 2] > 0)
        frequencies = {c.number: c.frequency for c in self._classes if c.frequency in FREQUENCIES}
        fixed = detection_average_precision(of_classes, truth, known, frequencies)
        return detection_average_precision(of_images, truth, known, frequencies) | {
            f"fixed_{name}": value for name, value in fixed.items()
        }


class _Best:
    """The best detections of each class over all images."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[Boxes] = []
        self._waiting = 0

    def add(self, boxes: Boxes) -> None:
        """Add the detections of one image."""
        self._parts.append(boxes)
        self._waiting += len(boxes)
        held = len(self._parts[0])
        if self._waiting > max(2 * held, 4_000_000):  # sort seldom: the cost of a detection stays constant
            self._cut()

    def gathered(self) -> Boxes:
        """The best of all processes."""
        self._cut()
        self._parts = [_gathered(self._parts)]
        self._cut()
        return self._parts[0]

    def _cut(self) -> None:
        boxes = _joined(self._parts)
        order = np.lexsort((boxes.images, -boxes.values, boxes.classes))
        classes = boxes.classes[order]
        rank = np.arange(len(classes)) - np.searchsorted(classes, classes)
        kept = np.sort(order[rank < self._limit])
        self._parts, self._waiting = [boxes.select(kept)], len(kept)


def image_number(record: Record) -> int:
    """A number for a record's image, the same on all processes: its own, where it is one."""
    is_number = record.image_id.isdecimal() and len(record.image_id) <= _DIGITS
    return int(record.image_id) if is_number else hash_of(record.image_id)


def _joined(parts: Sequence[Boxes]) -> Boxes:
    """The detections of many images as one."""
    integers, floats = np.empty(0, dtype=np.int64), np.empty((0, 4), dtype=np.float32)
    return Boxes(
        np.concatenate([integers, *(part.images for part in parts)]),
        np.concatenate([integers, *(part.classes for part in parts)]),
        np.concatenate([floats, *(part.corners for part in parts)]),
        np.concatenate([floats[:, 0], *(part.values for part in parts)]),
    )


def _gathered(parts: Sequence[Boxes]) -> Boxes:
    """The detections of all processes, in an order that does not depend on who found them."""
    own = _joined(parts)
    keys = gather_rows(np.column_stack([own.images, own.classes]))
    rows = gather_rows(np.column_stack([own.corners, own.values]))
    order = np.argsort(keys[:, 0], kind="stable")
    return Boxes(keys[order, 0], keys[order, 1], rows[order, :4], rows[order, 4])
