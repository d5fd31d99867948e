"""Odd boxes and spans, in targets, in files, and in what a model predicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdetr.data.combine import combine_records
from mdetr.data.record import Record
from mdetr.data.store import Store
from mdetr.model.interface import MdetrOutput
from mdetr.processing.detections import Detections
from tests.corpus.cases import Case, Refused, command, model
from tests.corpus.images import H, W, quarters

NAN, INF = float("nan"), float("inf")
TEXT = "a red cube"


def _target(boxes: Any, spans: Any = None, **more: Any) -> Callable[[Path], object]:
    """Give the processor a target, and return its boxes relative to the image and the tokens of the first."""

    def act(_: Path) -> object:
        own = [[(0, len(TEXT))]] * len(boxes) if spans is None else spans
        target = {"boxes": boxes, "spans": own, **more}
        targets = model().processor(quarters(), TEXT, targets=target)["targets"]
        tokens = targets["positive_map"][0].nonzero()[:, 1].tolist() if len(boxes) == 1 else len(boxes)
        return targets["boxes"][0, :1].tolist(), tokens

    return act


def _line(**fields: Any) -> Callable[[Path], object]:
    """Import a line of JSON, and return the boxes and spans of its record."""

    def act(folder: Path) -> object:
        quarters().save(folder / "a.png")
        line = {"image": "a.png", "text": TEXT} | fields
        (folder / "a.jsonl").write_text(json.dumps(line))
        command("data", "import", "jsonl", folder / "a.jsonl", folder / "output")
        (record,) = Store.open(folder / "output")
        return record.boxes, record.spans

    return act


WHOLE = [1, 2, 3]  # tokens of the text, between its start and end
BOX = [[16, 12, 48, 36]]
RELATIVE = [[0.5, 0.5, 0.5, 0.5]]
CASES = [
    Case("target: a box", _target(BOX), (RELATIVE, WHOLE)),
    Case("target: a box as a tensor", _target(torch.tensor(BOX)), (RELATIVE, WHOLE)),
    Case("target: a box as an array", _target(np.array(BOX)), (RELATIVE, WHOLE)),
    Case("target: no boxes", _target([]), ([], 0)),
    Case("target: 5,000 boxes", _target(BOX * 5000), (RELATIVE, 5000)),
    Case("target: beyond the image", _target([[-16, -12, 80, 60]]), ([[0.5, 0.5, 1.5, 1.5]], WHOLE)),
    Case("target: a span cut inside a word", _target(BOX, [[(3, 4)]]), (RELATIVE, [2])),
    Case("target: overlapping spans", _target(BOX, [[(0, 5), (2, 10)]]), (RELATIVE, WHOLE)),
    Case("target: no span", _target(BOX, [[]]), (RELATIVE, [])),
    Case("target: a span of numpy", _target(BOX, [[np.array([2, 5])]]), (RELATIVE, [2])),
    Case("target: a span of white space", _target(BOX, [[(1, 2)]]), (RELATIVE, [])),
]
_BAD_BOXES: dict[str, tuple[Any, str]] = {
    "NaN": ([[NAN, 1, 9, 9]], "not finite"),
    "infinite": ([[0, 1, INF, 9]], "not finite"),
    "beyond 32 bits": ([[0, 1, 1e300, 9]], "not finite"),
    "swapped": ([[9, 9, 1, 1]], "empty"),
    "of no width": ([[5, 1, 5, 9]], "empty"),
    "of three numbers": ([[1, 2, 3]], "four numbers"),
    "of five numbers": ([[1, 2, 3, 4, 5]], "four numbers"),
    "of texts": ([["1", "2", "3", "4"]], "four numbers"),
    "that is None": ([None], "four numbers"),
    "that is a number": ([7], "four numbers"),
    "of different lengths": ([[1, 2, 3, 4], [1, 2]], "four numbers"),
    "of complex numbers": ([[1j, 2, 3, 4]], "four numbers"),
}
for name, (boxes, words) in _BAD_BOXES.items():
    CASES.append(Case(f"target: a box {name}", _target(boxes), Refused(words)))
for name, span in {
    "empty": (3, 3),
    "swapped": (5, 2),
    "negative": (-1, 3),
    "behind the text": (3, 99),
    "of NaN": (NAN, 3),
    "of floats": (0.5, 3.5),
    "of texts": ("0", "3"),
    "of one number": (3,),
    "of three numbers": (1, 2, 3),
    "that is None": None,
    "that is a number": 3,
}.items():
    CASES.append(Case(f"target: a span {name}", _target(BOX, [[span]]), Refused("Span (")))
CASES += [
    Case("target: fewer spans than boxes", _target(BOX * 2, [[]]), Refused("spans for each")),
    Case("target: fewer flags than boxes", _target(BOX * 2, is_referred=[True]), Refused("is_referred")),
    Case("target: masks of another size", _target(BOX, masks=torch.zeros(1, 9, 9)), Refused("mask of 48")),
    Case("target: masks that are no run lengths", _target(BOX, masks=[b"\xff\xfe"]), Refused("run lengths")),
    Case("target: without spans", lambda _: _processed({"boxes": BOX}), Refused('"boxes" and "spans"')),
    Case("target: a list", lambda _: _processed([[1, 2]]), Refused('"boxes" and "spans"')),
    Case("target: one too many", lambda _: _processed([{}, {}]), Refused("a target for each")),
    Case("target: without an image", lambda _: model().processor(None, TEXT, {}), Refused("give images")),
]


def _processed(targets: Any) -> Any:
    return model().processor(quarters(), TEXT, targets=targets)


# Boxes and spans of files
_FULL = ((1.0, 2.0, 30.0, 20.0),)
CASES += [
    Case("line: numbers as texts", _line(boxes=[["1", "2", "30", "2e1"]]), (_FULL, ((),))),
    Case(
        "line: 5,000 boxes",
        lambda folder: len(_line(boxes=[[1, 2, 30, 20]] * 5000)(folder)[0]),
        5000,
    ),
    Case(
        "line: overlapping spans",
        _line(boxes=[[1, 2, 30, 20]], phrases=[[[0, 5], [2, 10]]]),
        (_FULL, (((0, 5), (2, 10)),)),
    ),
    Case(
        "line: a span cut inside a word",
        _line(boxes=[[1, 2, 30, 20]], phrases=[[[3, 4]]]),
        (_FULL, (((3, 4),),)),
    ),
    Case("line: no phrase", _line(boxes=[[1, 2, 30, 20]], phrases=[[]]), (_FULL, ((),))),
    Case("line: no boxes", _line(boxes=[], phrases=[]), ((), ())),
    Case("line: boxes of null", _line(boxes=None, phrases=None), ((), ())),
]
for name, (box, words) in {
    "NaN": ([NAN, 1, 9, 9], "not finite"),
    "infinite": ([0, 1, INF, 9], "not finite"),
    "negative": ([-1, 1, 9, 9], "leaves the image"),
    "outside": ([1, 1, 65, 9], "leaves the image"),
    "swapped": ([9, 9, 1, 1], "empty"),
    "of no height": ([1, 5, 9, 5], "empty"),
    "empty in 32 bits": ([1, 1, 1.00000001, 9], "empty"),
    "beyond all numbers": ([0, 0, 10**400, 9], "not finite"),
    "of five numbers": ([1, 2, 3, 4, 5], "four numbers"),
    "of words": (["left", 2, 3, 4], "must be a number"),
    "of true and false": ([True, 0, 5, 5], "must be a number"),
    "that is null": (None, "must be a list"),
    "that is an object": ({"x": 1}, "must be a list"),
}.items():
    CASES.append(Case(f"line: a box {name}", _line(boxes=[box]), Refused(words)))
for name, (phrase, words) in {
    "of words not in the text": ("blue ball", "is not in the text"),
    "of part of a word": ("ub", "is not in the text"),
    "that is empty": ("", "is not in the text"),
    "outside": ([[3, 99]], "outside its text"),
    "of an empty span": ([[3, 3]], "outside its text"),
    "of a swapped span": ([[5, 3]], "outside its text"),
    "of a negative span": ([[-3, 3]], "outside its text"),
    "of NaN": ([[NAN, 3]], "whole number"),
    "of halves": ([[0.5, 3]], "whole number"),
    "that is a number": (7, "words of its text"),
    "of three numbers": ([[1, 2, 3]], "spans [[start, end]"),
}.items():
    act = _line(boxes=[[1, 2, 30, 20]], phrases=[phrase])
    CASES.append(Case(f"line: a phrase {name}", act, Refused(words)))


# What a model predicts
def _predicted(logit: float = 0.0, box: float = 0.5, **options: Any) -> Callable[[Path], object]:
    """Post-process an output that is all one value, and return how many boxes it has and where."""

    def act(_: Path) -> object:
        inputs = model().processor(quarters(), TEXT)
        output = MdetrOutput(
            logits=torch.full((1, 5, 256), logit),
            pred_boxes=torch.full((1, 5, 4), box),
            input_ids=inputs["input_ids"],
        )
        (result,) = model().processor.post_process_grounded_object_detection(
            output, target_sizes=[(H, W)], **options
        )
        return len(result["boxes"]), result["boxes"][:1].tolist()

    return act


CASES += [
    Case("prediction of NaN", _predicted(NAN), (0, [])),
    Case("prediction of infinite logits", _predicted(INF), (0, [])),
    Case("prediction beyond the image", _predicted(0.0, 9.0), (5, [[64.0, 48.0, 64.0, 48.0]])),
    Case("prediction below no threshold", _predicted(0.0, threshold=0), (1, [[16.0, 12.0, 48.0, 36.0]])),
    Case(
        "sizes of two images for one",
        lambda _: model().processor.image_processor.post_process_object_detection(
            MdetrOutput(logits=torch.zeros(1, 5, 256), pred_boxes=torch.zeros(1, 5, 4)), 0.1, [(1, 1)] * 2
        ),
        Refused("target_sizes"),
    ),
    Case(
        "detections of different lengths",
        lambda _: Detections(np.zeros((2, 4)), np.zeros(3)),
        Refused("same length"),
    ),
    Case(
        "detections of three numbers a box",
        lambda _: Detections(np.zeros((2, 3)), np.zeros(2)),
        Refused("four numbers"),
    ),
]


def _combined(folder: Path) -> object:
    """Combine captions with thousands of boxes."""
    boxes = tuple((float(n % 100), float(n // 100), n % 100 + 0.9, n // 100 + 0.9) for n in range(3000))
    records = [
        Record("made", "train", str(n), "a.png", "a", 200, 200, TEXT, boxes, (((0, 10),),) * 3000)
        for n in range(3)
    ]
    return sorted(len(record.boxes) for record in combine_records(records))


CASES.append(Case("captions with 9,000 boxes, combined", _combined, [3000, 3000, 3000]))
