"""Segmentation: IoU of masks and boxes, of all phrases and per subset of PhraseCut."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.evaluation.metrics.segmentation import SegmentationMetric
from mdetr.model.interface import MdetrOutput
from mdetr.processing.detections import Detections
from mdetr.processing.layouts import ImageLayout
from mdetr.processing.prediction import Prediction
from mdetr.processing.processor import MdetrProcessor
from mdetr.processing.rle import encode_masks
from mdetr.processing.tokens import tokenized_texts

HEIGHT, WIDTH = 40, 80


def _mask(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _record(id: str, *boxes: tuple[int, int, int, int], **structure: Any) -> Record:
    masks = encode_masks(np.stack([_mask(*box).numpy().astype(np.uint8) for box in boxes]))
    spans = tuple(((0, 5),) for _ in boxes)
    names = {
        "source": "phrasecut",
        "split": "val",
        "id": id,
        "image": "a.png",
        "image_id": "1",
        "text": "zebra",
    }
    extra = json.dumps({"phrase_structure": structure})
    return Record(**names, width=WIDTH, height=HEIGHT, boxes=boxes, spans=spans, masks=masks, extra=extra)


def test_scores_are_those_of_the_definition() -> None:
    metric = SegmentationMetric()
    one = _record("1", (0, 0, 20, 20), type="name", attributes=[], relation_descriptions=[])
    two = _record(
        "2", (0, 0, 10, 10), (40, 0, 50, 10), type="attribute", attributes=["big"], relation_descriptions=[]
    )
    assert metric.score_masks(one, _mask(0, 0, 20, 10), torch.tensor([[0.0, 0, 20, 10]])) == 0.5
    mask = _mask(0, 0, 10, 10) | _mask(40, 0, 50, 10)
    assert metric.score_masks(two, mask, torch.tensor([[0.0, 0, 10, 10], [40, 0, 60, 10]])) == 1
    assert metric.compute() == pytest.approx(
        {
            "mean_iou": 0.75,
            "cumulative_iou": (200 + 200) / (400 + 200),
            "precision@0.5": 0.5,  # above, not at
            "precision@0.7": 0.5,
            "precision@0.9": 0.5,
            "box_mean_iou": (0.5 + 200 / 300) / 2,
            "box_cumulative_iou": 400 / 700,
            "num_phrases": 2,
            "mean_iou/i_single": 0.5,
            "mean_iou/i_multi": 1,
            "mean_iou/s_mid": 0.75,
            "mean_iou/p_name": 0.5,
            "mean_iou/p_att": 1,
            "mean_iou/p_att+": 1,
        }
    )


def test_masks_of_confident_queries_are_united(processor: MdetrProcessor) -> None:
    logits = torch.zeros(1, 3, 256)
    logits[0, 2, -1] = 20  # the third query sees no object
    masks = torch.full((1, 3, HEIGHT // 4, WIDTH // 4), -9.0)
    masks[0, 0, :5, :5] = masks[0, 1, :5, 5:10] = masks[0, 2, 5:] = 9
    boxes = torch.tensor([[[0.125, 0.25, 0.25, 0.5], [0.375, 0.25, 0.25, 0.5], [0.5, 0.5, 1, 1]]])
    output = MdetrOutput(logits=logits, pred_boxes=boxes, pred_masks=masks)
    layout = ImageLayout((HEIGHT, WIDTH), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    texts = tokenized_texts(processor.tokenize(["zebra"]).encodings, ["zebra"])
    predictions = processor.post_process_predictions(output, texts, [layout])
    metric = SegmentationMetric()
    (scored,) = metric.update(predictions, [_record("1", (0, 0, 40, 20))])
    assert scored.score > 0.9
    assert len(scored.groundings) == 2
    assert metric.compute()["box_mean_iou"] == 1
    plain = Record("made-up", "val", "1", "a.png", "1", WIDTH, HEIGHT, "a cat")
    assert metric.update(predictions, [plain]) == []


def test_iou_without_predicted_masks_is_zero() -> None:
    metric = SegmentationMetric()
    assert metric.score_masks(_record("1", (0, 0, 20, 20)), _mask(0, 0, 0, 0), torch.zeros(0, 4)) == 0
    assert metric.compute()["cumulative_iou"] == 0


def test_a_model_without_masks_is_refused() -> None:
    plain = Prediction(Detections([[0, 0, 40, 20]], [0.9]))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="Expected a model that predicts masks"):
        SegmentationMetric().update([plain], [_record("1", (0, 0, 40, 20))])
