"""Average precision of many classes: against the LVIS API's recorded scores, COCO's, and a plain loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdetr.evaluation.metrics.average_precision import (
    IOUS,
    RECALLS,
    Boxes,
    EvaluatedPairs,
    detection_average_precision,
)
from tests.evaluation.metrics.coco_peer import coco_scores

FIXTURE = Path(__file__).parents[2] / "fixtures" / "tasks" / "lvis"


def _boxes(entries: list[dict[str, Any]], value: str) -> Boxes:
    corners = np.array([entry["bbox"] for entry in entries], dtype=np.float64)
    corners[:, 2:] += corners[:, :2]
    columns = (np.array([entry[name] for entry in entries]) for name in ("image_id", "category_id", value))
    images, classes, values = columns
    return Boxes(images, classes, corners, values)


def _pairs(annotations: dict[str, Any]) -> EvaluatedPairs:
    pairs = {(entry["image_id"], entry["category_id"]): True for entry in annotations["annotations"]}
    for image in annotations["images"]:
        pairs |= {(image["id"], category): True for category in image["neg_category_ids"]}
        partly = [(image["id"], category) for category in image["not_exhaustive_category_ids"]]
        pairs |= {pair: False for pair in partly if pair in pairs}
    keys = np.array(list(pairs))
    return EvaluatedPairs(keys[:, 0], keys[:, 1], np.array(list(pairs.values())))


def test_scores_are_those_of_the_lvis_api() -> None:
    annotations = json.loads((FIXTURE / "annotations.json").read_text())
    detections = json.loads((FIXTURE / "detections.json").read_text())
    expected = json.loads((FIXTURE / "scores.json").read_text())
    scores = detection_average_precision(
        _boxes(detections, "score"),
        _boxes(annotations["annotations"], "area"),
        _pairs(annotations),
        {entry["id"]: entry["frequency"] for entry in annotations["categories"]},
    )
    assert len(expected) == len(scores) == 13
    for name, value in expected.items():
        assert scores[name.replace("@300", "")] == pytest.approx(value, abs=1e-9), name


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = sides.clip(min=0).prod()
    return float(shared / (np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared))


def _plain_loop(detections: Boxes, true: Boxes, classes: int) -> float:
    """AP of all areas by the definition, where every class is annotated in every image."""
    values = []
    for category in range(classes):
        ranked = [n for n in np.argsort(-detections.values) if detections.classes[n] == category]
        truths = [n for n in range(len(true)) if true.classes[n] == category]
        for least in IOUS if truths else ():
            free, right, precisions = set(truths), 0, []
            for rank, n in enumerate(ranked, start=1):
                near = [
                    (_iou(detections.corners[n], true.corners[m]), m)
                    for m in free
                    if true.images[m] == detections.images[n]
                ]
                overlap, best = max(near, default=(0.0, -1))
                if overlap >= least:
                    free.remove(best)
                    right += 1
                precisions.append((right / len(truths), right / rank))
            reached = [[p for recall, p in precisions if recall >= level] for level in RECALLS]
            values.append(np.mean([max(level, default=0.0) for level in reached]))
    return float(np.mean(values))


def test_scores_of_random_boxes_are_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(0)

    def boxes(count: int) -> Boxes:
        start = random.uniform(0, 60, (count, 2))
        corners = np.concatenate([start, start + random.uniform(20, 60, (count, 2))], 1)
        return Boxes(
            random.integers(4, size=count),
            random.integers(3, size=count),
            corners,
            random.permutation(count) + 1.0,
        )

    true, far = boxes(40), boxes(300)
    near = true.corners + random.normal(0, 3, (40, 4))
    detections = Boxes(
        np.concatenate([true.images, far.images]),
        np.concatenate([true.classes, far.classes]),
        np.concatenate([near, far.corners]),
        random.permutation(340) + 1.0,
    )
    images, classes = (part.ravel() for part in np.meshgrid(range(4), range(3)))
    every = EvaluatedPairs(images, classes, np.ones(12, dtype=bool))
    score = detection_average_precision(detections, true, every, {})
    assert score["AP"] == pytest.approx(_plain_loop(detections, true, 3), abs=1e-9)
    assert 0.05 < score["AP"] < 0.9


def test_without_detections_or_without_true_boxes() -> None:
    none = Boxes(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    one = Boxes(np.zeros(1, int), np.zeros(1, int), np.array([[0, 0, 9.0, 9]]), np.ones(1))
    pairs = EvaluatedPairs(np.zeros(1, int), np.zeros(1, int), np.ones(1, dtype=bool))
    assert detection_average_precision(none, one, pairs, {})["AP"] == 0
    assert detection_average_precision(one, none, pairs, {})["AP"] == -1
    assert detection_average_precision(one, one, pairs, {})["AP"] == pytest.approx(1)


def test_crowds_and_areas_score_as_in_coco() -> None:
    random = np.random.default_rng(1)
    images, classes, count = 6, 2, 60
    start = random.uniform(0, 200, (count, 2))
    corners = np.concatenate([start, start + random.uniform(10, 150, (count, 2))], 1)
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    crowds = random.uniform(size=count) < 0.2
    truths = Boxes(
        random.integers(images, size=count), random.integers(1, classes + 1, count), corners, areas, crowds
    )
    near = np.concatenate([np.repeat(np.arange(count), 2), random.integers(count, size=100)])
    detections = Boxes(
        truths.images[near],
        np.where(random.uniform(size=220) < 0.8, truths.classes[near], 1),
        corners[near] + random.normal(0, 1, (220, 4)) * random.uniform(0, 12, (220, 1)),
        random.permutation(220) / 220.0,
    )
    detections = detections.select((detections.corners[:, 2:] > detections.corners[:, :2]).all(1))

    index = [part.ravel() for part in np.meshgrid(np.arange(images), np.arange(1, classes + 1))]
    pairs = EvaluatedPairs(index[0], index[1], np.ones(images * classes, dtype=bool))
    scores = detection_average_precision(detections, truths, pairs, {})
    assert scores == pytest.approx(coco_scores(detections, truths), abs=1e-14)  # rounding of the means
    assert 0.1 < scores["AP"] < 0.9
    without_crowds = detection_average_precision(detections, replace(truths, crowds=None), pairs, {})
    assert without_crowds["AP"] != pytest.approx(scores["AP"], abs=1e-3)  # crowds do make a difference here
