"""Baseline detectors of the paper: batches, training, and saving and loading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdetr.baselines.detectors import BASELINES, Baseline, BaselineCollator, is_baseline, load_baseline
from mdetr.data.examples import Example
from mdetr.data.record import Record
from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.evaluation.metrics.detection import NamedClass
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.rle import encode_masks

CLASSES = [NamedClass(3, "cube", "c"), NamedClass(8, "ball", "f")]
HEIGHT, WIDTH = 60, 80
BOX = (20.0, 10.0, 60.0, 50.0)
SMALL: dict[str, dict[str, Any]] = {
    "detr": {
        "backbone_config": {"model_type": "timm_backbone", "backbone": "resnet10t", "out_indices": [4]},
        **{"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "num_queries": 3},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "dropout": 0.0},
    },
    # few proposals, each of which costs as much as the image
    "maskrcnn": {"backbone": "resnet18", "weights": None, "rpn_post_nms_top_n_test": 20},
}


def _record(number: int, *boxes: tuple[float, ...]) -> Record:
    named = next(named for named in CLASSES if named.number == number)
    mask = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.uint8)
    mask[:, 10:50, 20:60] = 1
    return Record(
        *("lvis", "train", f"1-{number}", "a.png", "1", WIDTH, HEIGHT, named.name),
        boxes=boxes,
        spans=tuple(((0, 1),) for _ in boxes),
        masks=encode_masks(mask.numpy()) if boxes else None,
        extra=json.dumps({"category_id": number, "name": named.name, "frequency": named.frequency}),
    )


@pytest.fixture
def processor() -> MdetrImageProcessor:
    return MdetrImageProcessor(size={"shortest_edge": 90, "longest_edge": 160})


@pytest.fixture
def example() -> Example:
    """A white ball on black, no cube."""
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    image[:, 10:50, 20:60] = 255
    return Example(image, (_record(3), _record(8, BOX)))


def test_a_batch_has_relative_boxes_and_resized_masks(
    processor: MdetrImageProcessor, example: Example
) -> None:
    batch = BaselineCollator(CLASSES, processor, do_resize=True, with_masks=True)([example])
    assert batch["pixel_values"].shape == (1, 3, 90, 120)
    (label,) = batch["labels"]
    assert label["class_labels"].tolist() == [1]
    torch.testing.assert_close(label["boxes"], torch.tensor([[0.5, 0.5, 0.5, 40 / 60]]))
    assert label["masks"].shape == (1, 90, 120)
    assert label["masks"][0, 15:75, 30:90].all()
    assert label["masks"].sum() == 60 * 60
    assert len(batch["records"]) == 2


def test_missing_masks_are_refused(processor: MdetrImageProcessor, example: Example) -> None:
    bare = Example(example.image, tuple(replace(record, masks=None) for record in example.records))
    with pytest.raises(InvalidInputError, match="Expected masks to train Mask R-CNN"):
        BaselineCollator(CLASSES, processor, do_resize=True, with_masks=True)([bare])
    BaselineCollator(CLASSES, processor, do_resize=True, with_masks=False)([bare])


def _train(model: Baseline, batch: dict[str, Any], steps: int, lr: float) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    losses = []
    for _ in range(steps):
        output = model(**batch)
        assert len(output.losses) >= 3
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(output.loss.item())
    return losses


def test_detr_overfits_one_image(processor: MdetrImageProcessor, example: Example) -> None:
    torch.manual_seed(0)
    model = BASELINES["detr"](CLASSES, SMALL["detr"])
    batch = BaselineCollator(CLASSES, processor, do_resize=True, with_masks=False)([example])
    batch.pop("records")
    losses = _train(model, batch, 60, 1e-3)
    assert losses[-1] < losses[0] / 2
    detections = model.eval().detect(example.image, processor)
    best = detections[int(np.argmax(detections.scores))]
    assert best.name == "ball"
    np.testing.assert_allclose(best.box, BOX, atol=8)


def test_mask_rcnn_trains_and_its_boxes_are_in_pixels_of_the_original_image(
    processor: MdetrImageProcessor, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = BASELINES["maskrcnn"](CLASSES, SMALL["maskrcnn"])
    batch = BaselineCollator(CLASSES, processor, do_resize=True, with_masks=True)([example])
    batch.pop("records")
    losses = _train(model, batch, 5, 3e-4)
    assert losses[-1] < losses[0]
    prediction = {
        "boxes": torch.tensor([BOX]) * 1.5,
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.75]),
    }
    monkeypatch.setattr(model.eval().model, "forward", lambda images: [prediction])  # 60 x 80 became 90 x 120
    detections = model.detect(example.image, processor)
    assert (detections.labels, detections.scores.tolist()) == (("ball",), [0.75])
    np.testing.assert_allclose(detections.boxes_xyxy, [BOX], atol=1e-3)


def test_mask_rcnn_does_not_resize_images_again(processor: MdetrImageProcessor, example: Example) -> None:
    model = BASELINES["maskrcnn"](CLASSES, SMALL["maskrcnn"])
    sizes: list[tuple[int, ...]] = []
    model.model.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    batch = BaselineCollator(CLASSES, processor, do_resize=True, with_masks=True)([example])
    batch.pop("records")
    model(**batch)
    model.eval().detect(example.image, processor)
    assert sizes == [(1, 3, 96, 128)] * 2  # 90 x 120, padded to multiples of 32


@pytest.mark.parametrize("kind", ["detr", "maskrcnn"])
def test_a_saved_baseline_loads_and_predicts_the_same(
    kind: str, processor: MdetrImageProcessor, example: Example, tmp_path: Path
) -> None:
    model = BASELINES[kind](CLASSES, SMALL[kind]).eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert is_baseline(tmp_path)
    loaded, same_processor = load_baseline(tmp_path)
    assert loaded.classes == CLASSES
    detections = model.detect(example.image, processor)
    loaded_detections = loaded.eval().detect(example.image, same_processor)
    assert detections.labels == loaded_detections.labels
    np.testing.assert_allclose(detections.boxes_xyxy, loaded_detections.boxes_xyxy, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(detections.scores, loaded_detections.scores, rtol=1e-4, atol=1e-4)
    (tmp_path / "baseline.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged or that of another program"):
        load_baseline(tmp_path)


def test_boxes_of_large_images_are_in_their_pixels(
    processor: MdetrImageProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = BASELINES["detr"](CLASSES, SMALL["detr"])
    prediction = (torch.tensor([1]), torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([0.9]))
    monkeypatch.setattr(model, "_predict", lambda pixel_values, pixel_mask: prediction)
    detections = model.detect(torch.zeros(3, 300, 400, dtype=torch.uint8), processor)
    np.testing.assert_allclose(detections.boxes_xyxy, [[100, 75, 300, 225]])
