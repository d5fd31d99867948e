"""Average precision of boxes of many classes by the rules of LVIS and COCO."""

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
_TOLERANCE = 1e-10

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

# Dimensions in the comments below: A area ranges, T IoU thresholds, R recalls, n detections, m true boxes.


@dataclass(frozen=True)
class Boxes:
    """n boxes of any images and classes, as arrays of one length.

    Attributes:
        images: (n,) image of each box.
        classes: (n,) class of each box.
        corners: (n, 4) x0, y0, x1, y1 in pixels.
        values: (n,) scores of detections, or areas of true boxes, which may be those of their masks.
        crowds: (n,) which true boxes are crowds: detections of a crowd are neither right nor wrong.
    """

    images: Ints
    classes: Ints
    corners: Floats
    values: Floats
    crowds: Flags | None = None

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: NDArray[np.generic]) -> Boxes:
        """Some of the boxes.

        Args:
            index: (k,) indices or (n,) mask.

        Returns:
            The selected boxes.
        """
        crowds = None if self.crowds is None else self.crowds[index]
        return Boxes(self.images[index], self.classes[index], self.corners[index], self.values[index], crowds)


@dataclass(frozen=True)
class EvaluatedPairs:
    """Pairs of an image and a class whose presence or absence is annotated, as arrays of one length.

    Attributes:
        images: (n,) image of each pair.
        classes: (n,) class of each pair.
        exhaustive: (n,) whether every box of the class is annotated, so that any other detection is wrong.
    """

    images: Ints
    classes: Ints
    exhaustive: Flags

    def select(self, index: NDArray[np.generic]) -> EvaluatedPairs:
        """Some of the pairs.

        Args:
            index: (k,) indices or (n,) mask.

        Returns:
            The selected pairs.
        """
        return EvaluatedPairs(self.images[index], self.classes[index], self.exhaustive[index])


def detection_average_precision(
    detections: Boxes, truths: Boxes, pairs: EvaluatedPairs, frequencies: Mapping[int, str]
) -> dict[str, float]:
    """Average precision and recall as the LVIS API computes them, over the annotated pairs only.

    Args:
        detections: Predicted boxes; those whose image and class are not among the pairs don't count.
        truths: True boxes.
        pairs: Annotated images and classes; must cover those of all true boxes.
        frequencies: Class -> "r", "c" or "f", where the data set provides it.

    Returns:
        AP over the IoU thresholds 0.5, 0.55, ..., 0.95, AP50, AP75; APs, APm, APl for areas up to 32 x 32, to
        96 x 96 and above; APr, APc, APf; AR, ARs, ARm, ARl. -1 where there is no true box.

    Source: arXiv 1908.03195, section 3 (LVIS).
    """
    # Evaluate each class
    classes, precisions, recalls = [], [], []
    detections = detections.select(np.lexsort((-detections.values, detections.images)))
    for category, own_detections, own_truths, own_pairs in _group_by_class(detections, truths, pairs):
        class_precision, class_recall = _evaluate_class(own_detections, own_truths, own_pairs)
        classes.append(category)
        precisions.append(class_precision)
        recalls.append(class_recall)
    if not classes:
        return {}
    precision = np.stack(precisions)  # (classes, A, T, R)
    recall = np.stack(recalls)  # (classes, A, T)

    # Average over classes, thresholds and recalls
    scores = {
        "AP": _mean(precision[:, 0]),
        "AP50": _mean(precision[:, 0, 0]),
        "AP75": _mean(precision[:, 0, 5]),
    }
    for index, area in enumerate(AREAS):
        if area:
            scores[f"AP{area}"] = _mean(precision[:, index])
    if frequencies:
        frequency_of = np.array([frequencies.get(category, "") for category in classes])
        for frequency in FREQUENCIES:
            scores[f"AP{frequency}"] = _mean(precision[frequency_of == frequency, 0])
    for index, area in enumerate(AREAS):
        scores[f"AR{area}"] = _mean(recall[:, index])
    return scores


def best_per_group(groups: Ints, scores: Floats, limit: int) -> Ints:
    """Index the highest scores of each group.

    Args:
        groups: (n,) group of each score.
        scores: (n,) scores; of equal ones, the earlier counts as higher.
        limit: Number of scores to keep of each group.

    Returns:
        Indices, ascending.
    """
    order = np.lexsort((-scores, groups))
    ordered = groups[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < limit])


def _mean(values: Floats) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if len(valid) else -1.0


def _group_by_class(
    detections: Boxes, truths: Boxes, pairs: EvaluatedPairs
) -> Iterator[tuple[int, Boxes, Boxes, EvaluatedPairs]]:
    """Each class of the pairs with its boxes and pairs, in their original order."""
    detection_order = np.argsort(detections.classes, kind="stable")
    truth_order = np.argsort(truths.classes, kind="stable")
    pair_order = np.argsort(pairs.classes, kind="stable")
    for category in np.unique(pairs.classes).tolist():
        yield (
            category,
            detections.select(_indices_of(category, detections.classes, detection_order)),
            truths.select(_indices_of(category, truths.classes, truth_order)),
            pairs.select(_indices_of(category, pairs.classes, pair_order)),
        )


def _indices_of(category: int, classes: Ints, order: Ints) -> Ints:
    start = np.searchsorted(classes, category, sorter=order)
    end = np.searchsorted(classes, category, "right", sorter=order)
    return order[start:end]


def _evaluate_class(detections: Boxes, truths: Boxes, pairs: EvaluatedPairs) -> tuple[Floats, Floats]:
    """Precision (A, T, R) and final recall (A, T) of one class; -1 where there is no true box."""
    # Keep the detections in annotated images
    pairs = pairs.select(np.argsort(pairs.images))
    nearest = np.searchsorted(pairs.images, detections.images).clip(max=len(pairs.images) - 1)
    annotated = pairs.images[nearest] == detections.images
    detections, exhaustive = detections.select(annotated), pairs.exhaustive[nearest[annotated]]

    # Set aside the boxes outside of each area range, and crowds
    limits = np.array(list(AREAS.values()))
    areas = np.prod(detections.corners[:, 2:] - detections.corners[:, :2], axis=1)
    outside = (areas < limits[:, :1]) | (areas > limits[:, 1:])  # (A, n)
    truths = truths.select(np.argsort(truths.images, kind="stable"))
    crowds = np.zeros(len(truths), dtype=bool) if truths.crowds is None else truths.crowds
    ignorable = (truths.values < limits[:, :1]) | (truths.values > limits[:, 1:]) | crowds  # (A, m)

    # Match detections to true boxes
    hit, ignored = _match(detections, truths, ignorable, crowds)
    counted = ~ignored & (hit | ~(outside | ~exhaustive)[:, None])

    # Rank the detections of all images by score, and interpolate
    by_score = np.argsort(-detections.values, kind="stable")
    hit, counted = hit[..., by_score], counted[..., by_score]
    num_truths = (~ignorable).sum(1)  # (A,)
    precision = np.full((len(AREAS), len(IOUS), len(RECALLS)), -1.0)
    recall = np.full((len(AREAS), len(IOUS)), -1.0)
    for a in num_truths.nonzero()[0].tolist():
        for t in range(len(IOUS)):
            ranked = hit[a, t, counted[a, t]]
            recall[a, t] = ranked.sum() / num_truths[a]
            precision[a, t] = _interpolate(ranked, int(num_truths[a]))
    return precision, recall


def _interpolate(ranked: Flags, num_truths: int) -> Floats:
    """The highest precision at each of `RECALLS` or beyond, (R,); 0 beyond the final recall."""
    hits = ranked.cumsum()
    precision = hits / np.arange(1, len(ranked) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(hits / num_truths, RECALLS)
    return np.append(highest, 0.0)[reached]


def _match(detections: Boxes, truths: Boxes, ignorable: Flags, crowds: Flags) -> tuple[Flags, Flags]:
    """Match each detection, best first, to the free true box of its image that it overlaps most.

    Args:
        detections: n detections by image, best first.
        truths: m true boxes by image.
        ignorable: (A, m) which true boxes don't count in an area range.
        crowds: (m,) which true boxes are crowds.

    Returns:
        Which detections have a match, and which of these matches don't count, (A, T, n) each.
    """
    hit = np.zeros((len(AREAS), len(IOUS), len(detections)), dtype=bool)
    ignored = np.zeros_like(hit)
    images = np.unique(truths.images)
    detection_starts = np.searchsorted(detections.images, images)
    detection_ends = np.searchsorted(detections.images, images, "right")
    truth_starts = np.searchsorted(truths.images, images)
    truth_ends = np.searchsorted(truths.images, images, "right")
    for index in (detection_ends > detection_starts).nonzero()[0]:
        here = slice(detection_starts[index], detection_ends[index])
        own = slice(truth_starts[index], truth_ends[index])
        overlaps = _overlaps(detections.corners[here], truths.corners[own], crowds[own])
        near = (overlaps.max(1) >= IOUS[0] - _TOLERANCE).nonzero()[0]
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
    """Match the detections of one image.

    True boxes that count come first; of equal overlaps, the later box wins, as in the LVIS API.

    Args:
        overlaps: (n, m) of detections, best first, and true boxes.
        near: Indices of the detections that overlap enough for a match.
        ignorable: (A, m) which true boxes don't count in an area range.
        crowds: (m,) which true boxes are crowds; they stay free after a match.
        hit: (A, T, n) output: which detections have a match.
        ignored: (A, T, n) output: which of the matches don't count.
    """
    free = np.ones((len(AREAS), len(IOUS), overlaps.shape[1]), dtype=bool)
    least = np.minimum(IOUS, 1 - _TOLERANCE)
    area, threshold = np.indices(free.shape[:2])
    last = overlaps.shape[1] - 1
    for n in near.tolist():
        matched = np.zeros(free.shape[:2], dtype=bool)
        for eligible in (~ignorable, ignorable):
            # Choose the best free true box at each area range and threshold
            candidates = np.where(free & eligible[:, None], overlaps[n], -1.0)
            best = last - candidates[..., ::-1].argmax(-1)
            good = (candidates[area, threshold, best] >= least) & ~matched

            # Take it
            taken = good & ~crowds[best]
            free[area[taken], threshold[taken], best[taken]] = False
            hit[..., n] |= good
            ignored[..., n] |= good & ignorable[area, best]
            matched |= good


def _overlaps(detections: Floats, truths: Floats, crowds: Flags) -> Floats:
    """IoU (n, m); with a crowd, the fraction of the detection that lies inside."""
    overlaps = box_iou(_to_doubles(detections), _to_doubles(truths)).numpy()
    if crowds.any():
        low = np.maximum(detections[:, None, :2], truths[None, crowds, :2])
        high = np.minimum(detections[:, None, 2:], truths[None, crowds, 2:])
        areas = np.prod(detections[:, 2:] - detections[:, :2], axis=1)
        overlaps[:, crowds] = (high - low).clip(min=0).prod(-1) / areas[:, None]
    return overlaps


def _to_doubles(corners: Floats) -> torch.Tensor:
    return torch.from_numpy(corners.astype(np.float64))
