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
    best_per_group,
    detection_average_precision,
)
from mdetr.evaluation.metrics.contract import paired
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction

PER_IMAGE = 300  # detections that the LVIS API scores
PER_CLASS = 10_000  # detections over the whole data set that "fixed AP" scores (arXiv 2102.01066)
_DIGITS = 18  # of a number that 64 bits hold
_MIN_PENDING = 4_000_000  # detections to collect before the best are selected


@dataclass(frozen=True)
class NamedClass:
    """A class of a data set.

    Attributes:
        number: The data set's id of the class.
        name: Name that the model detects it by.
        frequency: "r", "c" or "f" where the data set provides it, else "".
    """

    number: int
    name: str
    frequency: str = ""


def class_of(record: Record) -> tuple[NamedClass, bool | None]:
    """Class that a record annotates in its image.

    Args:
        record: The record.

    Returns:
        The class, and whether all its boxes are annotated; None where the data set annotates every class in
        every image.

    Raises:
        InvalidInputError: The record has no class.
    """
    fields = protocol_fields(record)
    if fields.category_id is not None:
        named = NamedClass(fields.category_id, fields.name or record.text, fields.frequency)
        return named, fields.exhaustive
    if record.category_ids:
        return NamedClass(record.category_ids[0], record.text), None
    raise InvalidInputError(
        f"Expected a record with a class, got {record.id!r} of source {record.source!r} without; "
        "evaluate detection on a store that was imported from coco or lvis."
    )


def classes_of(store: Store) -> list[NamedClass]:
    """Classes that the records of a store annotate.

    Args:
        store: The store.

    Returns:
        The classes, ordered by number.

    Raises:
        InvalidInputError: A record has no class.
    """
    classes: dict[int, NamedClass] = {}
    for record in store:
        named, _ = class_of(record)
        classes[named.number] = named
    return [classes[number] for number in sorted(classes)]


def read_classes(file: Path) -> list[NamedClass]:
    """Classes of an annotation file in COCO's or LVIS's format.

    Args:
        file: The JSON file.

    Returns:
        The classes, ordered by number.

    Raises:
        InvalidInputError: The file is missing or damaged.
        InvalidRecordError: A category has no number or no name.
    """
    categories = numbered(iterate_list(file, "categories"), f"{file}, category")
    return sorted(read_entries(categories, _read_class, None), key=lambda named: named.number)


def _read_class(entry: Any) -> NamedClass:
    fields = Fields(entry)
    return NamedClass(fields.whole("id"), fields.text("name"), fields.optional_text("frequency") or "")


class DetectionMetric:
    """Average precision of detecting every class of a data set in every image.

    Where the data set annotates only some classes in each image (LVIS), other classes do not count in that
    image; the scores are those of the LVIS API, with 300 detections per image, and "fixed" ones, with 10,000
    detections per class over the whole data set instead. Otherwise they are COCO's.

    Source: arXiv 2104.12763, section 4.2.4; arXiv 1908.03195; arXiv 2102.01066 (fixed AP).
    """

    def __init__(self, classes: Sequence[NamedClass]) -> None:
        """Start without any image.

        Args:
            classes: Classes to detect.

        Raises:
            InvalidInputError: Two of them have the same name.
        """
        self._classes = classes
        self._number_of = {named.name: named.number for named in classes}
        if len(self._number_of) < len(classes):
            counts = Counter(named.name for named in classes)
            raise InvalidInputError(
                f"Expected distinct names of classes, got {counts.most_common(1)[0][0]!r} more than once; "
                "rename one of these classes."
            )
        self._pairs = RecordRows(columns=3, dtype=np.int64)  # image, class, exhaustive (-1: all pairs are)
        self._truths = RecordRows(columns=2, dtype=np.int64)  # image, class
        self._true_boxes = RecordRows(columns=6)  # x0, y0, x1, y1, area, whether it is a crowd
        self._best_of_images: list[Boxes] = []
        self._best_of_classes = _BestOfClasses(PER_CLASS)

    def update(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> list[ExampleScore]:
        """Add some images.

        Args:
            predictions: Labeled detections of all classes in the image of each record; the records of an
                image share them.
            records: All records of these images, one for each annotated class.

        Returns:
            An empty list: the precision is one of all images.

        Raises:
            InvalidInputError: The numbers of records and predictions differ, or detections have no labels.
        """
        added: set[int] = set()
        for prediction, record in paired(predictions, records):
            image = image_number(record)
            self._add_truth(image, record)
            if image not in added:
                self._add_detections(image, prediction.detections)
                added.add(image)
        return []

    def _add_truth(self, image: int, record: Record) -> None:
        named, exhaustive = class_of(record)
        pair = [image, named.number, -1 if exhaustive is None else int(exhaustive)]
        self._pairs.add(record, np.array([pair]))

        # Boxes, with the areas of their masks where the data set has them
        fields = protocol_fields(record)
        corners = np.array(record.boxes, dtype=np.float32).reshape(-1, 4)
        areas = fields.areas or np.prod(corners[:, 2:] - corners[:, :2], axis=1)
        box_rows = np.column_stack([corners, areas, np.zeros(len(corners))])

        # Crowds, which may be of other classes
        crowds = np.array(fields.crowds, dtype=np.float32).reshape(-1, 5)  # class, x0, y0, x1, y1
        crowd_areas = np.prod(crowds[:, 3:] - crowds[:, 1:3], axis=1)
        crowd_rows = np.column_stack([crowds[:, 1:], crowd_areas, np.ones(len(crowds))])

        # One row for each of them
        classes = np.concatenate([np.full(len(corners), named.number), crowds[:, 0]]).astype(np.int64)
        self._truths.add(record, np.column_stack([np.full_like(classes, image), classes]))
        self._true_boxes.add(record, np.concatenate([box_rows, crowd_rows]))

    def _add_detections(self, image: int, detections: Detections) -> None:
        if detections.labels is None:
            raise InvalidInputError(
                "Expected detections with labels, got none; predict for class names, not for texts."
            )
        # Keep the detections of known classes
        indices, numbers = [], []
        for i, label in enumerate(detections.labels):
            if label in self._number_of:
                indices.append(i)
                numbers.append(self._number_of[label])
        index = np.array(indices, dtype=np.int64)
        classes = np.array(numbers, dtype=np.int64)
        boxes = Boxes(
            np.full_like(classes, image), classes, detections.boxes_xyxy[index], detections.scores[index]
        )

        # Keep the best of the image, and the best of each class over all images
        best = np.argsort(-boxes.values, kind="stable")[:PER_IMAGE]
        self._best_of_images.append(boxes.select(best))
        self._best_of_classes.add(boxes)

    def compute(self) -> dict[str, float]:
        """Combine the scores of all processes; every process must call this at the same time.

        Returns:
            AP, AP50, AP75, APs, APm, APl, AR, ARs, ARm, ARl; where images have only some classes annotated,
            also APr, APc, APf, and all of these as "fixed_" scores. Empty where no image was scored.
        """
        # Gather from all processes
        _, pair_rows = self._pairs.merged()
        _, truth_rows = self._truths.merged()
        _, box_rows = self._true_boxes.merged()
        best_of_images = _gather(self._best_of_images)
        best_of_classes = self._best_of_classes.gather()
        if not len(pair_rows):
            return {}
        truths = Boxes(
            truth_rows[:, 0], truth_rows[:, 1], box_rows[:, :4], box_rows[:, 4], crowds=box_rows[:, 5] > 0
        )

        # COCO: every class is annotated in every image
        if (pair_rows[:, 2] < 0).any():
            images = np.unique(pair_rows[:, 0])
            classes = np.array([named.number for named in self._classes])
            grid = np.stack(np.meshgrid(images, classes, indexing="ij"), -1).reshape(-1, 2)
            all_pairs = EvaluatedPairs(grid[:, 0], grid[:, 1], np.ones(len(grid), dtype=bool))
            return detection_average_precision(best_of_classes, truths, all_pairs, {})

        # LVIS: some classes are annotated in each image
        pairs = EvaluatedPairs(pair_rows[:, 0], pair_rows[:, 1], pair_rows[:, 2] > 0)
        frequencies = {c.number: c.frequency for c in self._classes if c.frequency in FREQUENCIES}
        scores = detection_average_precision(best_of_images, truths, pairs, frequencies)
        fixed = detection_average_precision(best_of_classes, truths, pairs, frequencies)
        for name, value in fixed.items():
            scores[f"fixed_{name}"] = value
        return scores


class _BestOfClasses:
    """The best detections of each class over all images, selected while they are added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[Boxes] = []
        self._pending = 0

    def add(self, boxes: Boxes) -> None:
        """Add the detections of one image."""
        self._parts.append(boxes)
        self._pending += len(boxes)
        # Select seldom: sorting costs more than adding
        if self._pending > max(2 * len(self._parts[0]), _MIN_PENDING):
            self._select()

    def gather(self) -> Boxes:
        """The best detections of all processes."""
        self._select()
        self._parts = [_gather(self._parts)]
        self._select()
        return self._parts[0]

    def _select(self) -> None:
        boxes = _concatenate(self._parts)
        # Order by image, since of equal scores the earlier is kept
        boxes = boxes.select(np.argsort(boxes.images, kind="stable"))
        best = boxes.select(best_per_group(boxes.classes, boxes.values, self._limit))
        self._parts, self._pending = [best], len(best)


def image_number(record: Record) -> int:
    """Number of a record's image, the same on all processes.

    Args:
        record: The record.

    Returns:
        The image's id where it is a number, else a hash of it.
    """
    is_number = record.image_id.isdecimal() and len(record.image_id) <= _DIGITS
    return int(record.image_id) if is_number else hash_of(record.image_id)


def _concatenate(parts: Sequence[Boxes]) -> Boxes:
    integers, floats = np.empty(0, dtype=np.int64), np.empty((0, 4), dtype=np.float32)
    return Boxes(
        np.concatenate([integers, *(part.images for part in parts)]),
        np.concatenate([integers, *(part.classes for part in parts)]),
        np.concatenate([floats, *(part.corners for part in parts)]),
        np.concatenate([floats[:, 0], *(part.values for part in parts)]),
    )


def _gather(parts: Sequence[Boxes]) -> Boxes:
    """The detections of all processes, by image, so that the order does not depend on the processes."""
    own = _concatenate(parts)
    keys = gather_rows(np.column_stack([own.images, own.classes]))
    rows = gather_rows(np.column_stack([own.corners, own.values]))
    order = np.argsort(keys[:, 0], kind="stable")
    return Boxes(keys[order, 0], keys[order, 1], rows[order, :4], rows[order, 4])
