"""COCO's metrics as faster-coco-eval computes them, to compare with."""

from __future__ import annotations

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from mdetr.evaluation.metrics.average_precision import Boxes

STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8, "ARs": 9, "ARm": 10, "ARl": 11}


def coco_scores(detections: Boxes, truths: Boxes) -> dict[str, float]:
    """AP and AR of boxes, where every class is annotated in every image."""
    annotations = _entries(truths)
    for n, annotation in enumerate(annotations):
        crowd = truths.crowds is not None and truths.crowds[n]
        annotation |= {"id": n + 1, "area": float(truths.values[n]), "iscrowd": int(crowd)}
    results = _entries(detections)
    for result, score in zip(results, detections.values.tolist(), strict=True):
        result["score"] = score

    images = np.unique(np.concatenate([detections.images, truths.images])).tolist()
    classes = np.unique(np.concatenate([detections.classes, truths.classes])).tolist()
    coco = COCO(
        {
            "images": [{"id": image} for image in images],
            "categories": [{"id": category, "name": str(category)} for category in classes],
            "annotations": annotations,
        }
    )
    evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: float(evaluation.stats[index]) for name, index in STATS.items()}


def _entries(boxes: Boxes) -> list[dict[str, object]]:
    corners = boxes.corners.astype(np.float64)
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    entries = []
    for image, category, box in zip(boxes.images, boxes.classes, xywh.tolist(), strict=True):
        entries.append({"image_id": int(image), "category_id": int(category), "bbox": box})
    return entries
