"""Scoring whole data sets: time and memory, against a plain loop over the definition.

5,000 captions of Flickr30k with 100 boxes each, 1,000,000 detections of LVIS, 100,000 masks of PhraseCut. The
loops take a part of the same data; their time is scaled to all of it.

Run: .venv/bin/python benchmarks/scoring.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch

from mdetr.data.record import Record
from mdetr.evaluation.metrics.average_precision import (
    IOUS,
    RECALLS,
    Boxes,
    EvaluatedPairs,
    detection_average_precision,
)
from mdetr.evaluation.metrics.phrase_grounding import PhraseGroundingMetric
from mdetr.evaluation.metrics.segmentation import SegmentationMetric
from mdetr.processing.rle import encode_masks

CAPTIONS, PHRASES, QUERIES = 5_000, 3, 100
DETECTIONS, IMAGES, CLASSES, TRUE = 1_000_000, 5_000, 1_203, 50_000
MASKS, HEIGHT, WIDTH = 100_000, 240, 320


def main() -> None:
    print("what                      ours (s)   loop (s)   ratio   memory (MiB)")
    for name, measure in (("captions", _captions), ("detections", _detections), ("masks", _masks)):
        before = psutil.Process().memory_info().rss
        count, ours, loop = measure()
        grown = (psutil.Process().memory_info().rss - before) / 2**20
        print(f"{count:>9,} {name:<12}{ours:12.1f}{loop:11.1f}{loop / ours:8.1f}{grown:15.0f}")


def _time(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _captions() -> tuple[int, float, float]:
    random = np.random.default_rng(0)
    text = "a man on a horse near a tree"
    spans = (((0, 5),), ((9, 16),), ((22, 28),))
    starts = random.uniform(0, 200, (PHRASES, 2))
    boxes = tuple(map(tuple, np.concatenate([starts, starts + 80], 1).tolist()))
    metric = PhraseGroundingMetric()
    corners = random.uniform(0, 200, (PHRASES, QUERIES, 2))
    ranked = torch.from_numpy(np.concatenate([corners, corners + 80], 2)).float()
    records = [
        Record("flickr30k", "test", str(n), "a.jpg", "1", 300, 300, text, boxes, spans)
        for n in range(CAPTIONS)
    ]

    def ours() -> None:
        for record in records:
            metric.score_phrases(record, list(ranked))
        metric.compute()

    def loop() -> None:
        for _ in records[:100]:
            for box, candidates in zip(boxes, ranked.tolist(), strict=True):
                hits = [_iou(box, candidate) >= 0.5 for candidate in candidates]
                [any(hits[:k]) for k in (1, 5, 10)]

    return CAPTIONS, _time(ours), _time(loop) * CAPTIONS / 100


def _detections() -> tuple[int, float, float]:
    random = np.random.default_rng(0)

    def boxes(count: int) -> Boxes:
        start = random.uniform(0, 500, (count, 2))
        corners = np.concatenate([start, start + random.uniform(10, 300, (count, 2))], 1)
        classes = (CLASSES * random.power(0.4, count)).astype(np.int64)  # a few are frequent, most are rare
        return Boxes(random.integers(IMAGES, size=count), classes, corners, random.uniform(size=count))

    true, far = boxes(TRUE), boxes(DETECTIONS - TRUE)
    found = Boxes(
        np.concatenate([true.images, far.images]),
        np.concatenate([true.classes, far.classes]),
        np.concatenate([true.corners + random.normal(0, 10, (TRUE, 4)), far.corners]),
        random.uniform(size=DETECTIONS),
    )
    images, classes = (part.ravel() for part in np.meshgrid(np.arange(IMAGES), np.arange(CLASSES)))
    asked = EvaluatedPairs(images, classes, np.ones(len(images), dtype=bool))
    ours = _time(lambda: detection_average_precision(found, true, asked, {}))
    mine = np.flatnonzero((found.classes % 50) == 0)
    theirs = np.flatnonzero((true.classes % 50) == 0)
    loop = _time(lambda: _plain_average_precision(found.select(mine), true.select(theirs)))
    return DETECTIONS, ours, loop * DETECTIONS / len(mine)


def _plain_average_precision(found: Boxes, true: Boxes) -> list[float]:
    """The definition, without areas: ours computes four ranges of areas in the same time."""
    values = []
    for category in np.unique(true.classes):
        mine = [n for n in np.argsort(-found.values) if found.classes[n] == category]
        truths = [n for n in range(len(true)) if true.classes[n] == category]
        corners, others = found.corners.tolist(), true.corners.tolist()
        for least in IOUS:
            free, right, points = set(truths), 0, []
            for rank, n in enumerate(mine, start=1):
                near = [(_iou(corners[n], others[m]), m) for m in free if true.images[m] == found.images[n]]
                overlap, best = max(near, default=(0.0, -1))
                if overlap >= least:
                    free.remove(best)
                    right += 1
                points.append((right / len(truths), right / rank))
            reached = np.array(points).reshape(-1, 2)
            values.append(np.mean([reached[reached[:, 0] >= level, 1].max(initial=0.0) for level in RECALLS]))
    return values


def _masks() -> tuple[int, float, float]:
    random = np.random.default_rng(0)
    true = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    true[20:180, 30:200] = True
    found = true.roll((10, 20), (0, 1))
    box = (30.0, 20.0, 200.0, 180.0)
    rle = encode_masks(true[None].numpy().astype(np.uint8))
    extra = json.dumps({"phrase_structure": {"type": "name", "attributes": [], "relation_descriptions": []}})
    metric = SegmentationMetric()
    said = torch.tensor([box]) + float(random.uniform(0, 1))

    def ours() -> None:
        for n in range(MASKS):
            record = Record(
                *("phrasecut", "test", str(n), "a.jpg", "1", WIDTH, HEIGHT, "a thing", (box,), (((0, 7),),)),
                masks=rle,
                extra=extra,
            )
            metric.score_masks(record, found, said)
        metric.compute()

    def loop() -> None:
        both = any_ = 0
        for row, other in zip(found.tolist(), true.tolist(), strict=True):
            for one, two in zip(row, other, strict=True):
                both += one and two
                any_ += one or two

    part = 20
    return MASKS, _time(ours), _time(lambda: [loop() for _ in range(part)]) * MASKS / part


def _iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area = (first[2] - first[0]) * (first[3] - first[1]) + (second[2] - second[0]) * (second[3] - second[1])
    return shared / (area - shared)


if __name__ == "__main__":
    main()
