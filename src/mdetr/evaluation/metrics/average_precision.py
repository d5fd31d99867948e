"""Average precision of many classes by the rules of LVIS and COCO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
FREQUENCIES = ("r", "c", "f")
_LEAST = 1e-10

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Boxes:
    """n boxes: the image and the class of each (n,), its x0, y0, x1, y1 in pixels (n, 4).

    values: (n,), the scores of detections; the areas of true boxes, which may be those of their masks.
    crowds: (n,), which true boxes are crowds: to find them is neither right nor wrong, any number of times.
    """

    images: Ints
    classes: Ints
    corners: Floats
    values: Floats
    crowds: Flags | None = None

    def __len__(self) -> int:
        return len(self.images)

    def at(self, places: NDArray[np.generic]) -> Boxes:
        """Some of the boxes, by index or by mask."""
        crowds = None if self.crowds is None else self.crowds[places]
        return Boxes(
            self.images[places], self.classes[places], self.corners[places], self.values[places], crowds
        )


@dataclass(frozen=True)
class Asked:
    """Which classes are known to be present or absent in which images: (n,) each.

    exhaustive: whether all boxes of the class are annotated in the image, so that others are wrong.
    """

    images: Ints
    classes: Ints
    exhaustive: Flags


def detection_precision(
    found: Boxes, true: Boxes, asked: Asked, frequencies: Mapping[int, str]
) -> dict[str, float]:
    """Average precision as the LVIS API computes it: only where a class is known to be there or not.

    Args:
        found: detections; those of classes that are not asked for in their image do not count.
        true: boxes. asked: covers every image and class of `true`.
        frequencies: class -> r, c or f, where the data set tells them.

    Returns:
        AP over the IoU thresholds 0.5, 0.55, ..., 0.95, AP50, AP75; APs, APm, APl for areas up to 32 x 32, to
        96 x 96 and above; APr, APc, APf; AR, ARs, ARm, ARl. -1 where there is nothing to find.

    Source: arXiv 1908.03195, section 3 (LVIS).
    """
    precisions, recalls, classes = [], [], []
    order = np.lexsort((-found.values, found.images))
    found = found.at(order)
    for category, of_class in _by_class(found, true, asked):
        precision, recall = _of_class(*of_class)
        precisions.append(precision)
        recalls.append(recall)
        classes.append(category)
    if not classes:
        return {}
    precision, recall = (
        np.stack(precisions),
        np.stack(recalls),
    )  # (K, A, T, R), (K, A, T); -1: nothing to find
    scores = {
        "AP": _mean(precision[:, 0]),
        "AP50": _mean(precision[:, 0, 0]),
        "AP75": _mean(precision[:, 0, 5]),
    }
    scores |= {f"AP{name}": _mean(precision[:, place]) for place, name in enumerate(AREAS) if name}
    if frequencies:
        kinds = np.array([frequencies.get(category, "") for category in classes])
        scores |= {f"AP{kind}": _mean(precision[kinds == kind, 0]) for kind in FREQUENCIES}
    return scores | {f"AR{name}": _mean(recall[:, place]) for place, name in enumerate(AREAS)}


def _mean(values: Floats) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if len(valid) else -1.0


def _by_class(found: Boxes, true: Boxes, asked: Asked) -> Iterator[tuple[int, tuple[Boxes, Boxes, Asked]]]:
    """Each class that is asked for, with what belongs to it, in the order in which it came."""
    classes = [found.classes, true.classes, asked.classes]
    places = [np.argsort(column, kind="stable") for column in classes]
    columns = [column[place] for column, place in zip(classes, places, strict=True)]
    for category in np.unique(asked.classes).tolist():
        mine = [
            place[np.searchsorted(column, category) : np.searchsorted(column, category, "right")]
            for place, column in zip(places, columns, strict=True)
        ]
        of_asked = Asked(asked.images[mine[2]], asked.classes[mine[2]], asked.exhaustive[mine[2]])
        yield category, (found.at(mine[0]), true.at(mine[1]), of_asked)


def _of_class(found: Boxes, true: Boxes, asked: Asked) -> tuple[Floats, Floats]:
    """Precision (areas, thresholds, recalls) and final recall (areas, thresholds) of one class."""
    order = np.argsort(asked.images)
    images, exhaustive = asked.images[order], asked.exhaustive[order]
    place = np.searchsorted(images, found.images).clip(max=len(images) - 1)
    found = found.at(images[place] == found.images)
    place = np.searchsorted(images, found.images)
    limits = np.array(list(AREAS.values()))
    areas = np.prod(found.corners[:, 2:] - found.corners[:, :2], axis=1)
    outside = (areas < limits[:, :1]) | (areas > limits[:, 1:])  # (A, n)
    crowds = np.zeros(len(true), dtype=bool) if true.crowds is None else true.crowds
    ignorable = (true.values < limits[:, :1]) | (true.values > limits[:, 1:]) | crowds  # (A, m)
    hit, ignored = _match(found, true, ignorable, crowds)
    ignored |= ~hit & (outside | ~exhaustive[place])[:, None]
    by_score = np.argsort(-found.values, kind="stable")
    hit, counts = hit[..., by_score], ~ignored[..., by_score]
    right, wrong = (hit & counts).cumsum(-1), (~hit & counts).cumsum(-1)
    wanted = (~ignorable).sum(1)  # (A,)
    precision = np.full((len(AREAS), len(IOUS), len(RECALLS)), -1.0)
    recall = np.full((len(AREAS), len(IOUS)), -1.0)
    for a in wanted.nonzero()[0].tolist():
        recall[a] = right[a, :, -1] / wanted[a] if len(found) else 0.0
        for t in range(len(IOUS)):
            precision[a, t] = _interpolate(right[a, t], wrong[a, t], int(wanted[a]))
    return precision, recall


def _interpolate(right: Ints, wrong: Ints, wanted: int) -> Floats:
    """The highest precision at each recall or a larger one; 0 where that is not reached."""
    precision = right / (right + wrong + np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / wanted, RECALLS)
    return np.append(highest, 0.0)[places]


def _match(found: Boxes, true: Boxes, ignorable: Flags, crowds: Flags) -> tuple[Flags, Flags]:
    """Give each detection, the best first, the free true box that it overlaps most; (A, T, n) each.

    Returns:
        Whether a detection has one, and whether that does not count: a crowd, or of another size.
    """
    hit = np.zeros((len(AREAS), len(IOUS), len(found)), dtype=bool)
    ignored = np.zeros_like(hit)
    starts = np.searchsorted(found.images, np.unique(true.images))
    ends = np.searchsorted(found.images, np.unique(true.images), "right")
    for image, start, end in zip(np.unique(true.images), starts, ends, strict=True):
        own = (true.images == image).nonzero()[0]
        if start == end:
            continue
        overlaps = _overlaps(found.corners[start:end], true.corners[own], crowds[own])
        near = (overlaps.max(1) >= IOUS[0] - _LEAST).nonzero()[0]
        here = slice(start, end)
        _match_image(overlaps, near, ignorable[:, own], crowds[own], hit[..., here], ignored[..., here])
    return hit, ignored


def _match_image(
    overlaps: Floats,
    near: Ints,
    ignorable: Flags,
    crowds: Flags,
    hit: Flags,
    ignored: Flags,
) -> None:
    """Fill in `hit` and `ignored` (A, T, n) of one image; `near`: the detections that can have a match.

    True boxes of the right area come first; of equal overlaps, the later box wins, as in the original.
    """
    free = np.ones((len(AREAS), len(IOUS), overlaps.shape[1]), dtype=bool)
    least = np.minimum(IOUS, 1 - _LEAST)
    area, threshold = np.indices(free.shape[:2])
    last = overlaps.shape[1] - 1
    for n in near.tolist():
        matched = np.zeros(free.shape[:2], dtype=bool)
        for counts in (~ignorable, ignorable):
            candidates = np.where(free & counts[:, None], overlaps[n], -1.0)
            best = last - candidates[..., ::-1].argmax(-1)
            good = (candidates[area, threshold, best] >= least) & ~matched
            taken = good & ~crowds[best]
            free[area[taken], threshold[taken], best[taken]] = False
            hit[..., n] |= good
            ignored[..., n] |= good & ignorable[area, best]
            matched |= good


def _overlaps(found: Floats, true: Floats, crowds: Flags) -> Floats:
    """IoU (n, m); with a crowd, the share of the detection that lies in it."""
    first, second = (torch.from_numpy(corners.astype(np.float64)) for corners in (found, true))
    overlaps = box_iou(first, second).numpy()
    if crowds.any():
        low = np.maximum(found[:, None, :2], true[None, crowds, :2])
        high = np.minimum(found[:, None, 2:], true[None, crowds, 2:])
        areas = np.prod(found[:, 2:] - found[:, :2], axis=1)
        overlaps[:, crowds] = (high - low).clip(min=0).prod(-1) / areas[:, None]
    return overlaps
