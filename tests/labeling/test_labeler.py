from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from mdetr import Mdetr
from mdetr.labeling.engines import ProcessGroup, label_locally
from mdetr.labeling.image_list import list_images
from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.labeler import _place_image
from mdetr.labeling.plan import LabelPlan, PlannedImage
from tests.labeling.conftest import CLASSES, SCENES, label_settings


@pytest.fixture(scope="module")
def model() -> Mdetr:
    return Mdetr.from_pretrained("clevr-tiny", device="cpu")


def test_boxes_are_those_of_detect_with_the_classes_of_their_phrases(
    labeled: LabeledData, model: Mdetr
) -> None:
    phrases = [phrase.phrase for phrase in CLASSES]
    classes = {phrase.phrase: phrase.class_name for phrase in CLASSES}
    for labels in labeled.usable_images():
        expected = model.detect(SCENES / Path(labels.image).name, phrases, threshold=0.599, max_overlap=1)
        found = {(row.name, *np.round(row.box, 2)): row.score for row in labels.detections}
        candidates = {(classes[row.name], *np.round(row.box, 2)): row.score for row in expected}
        assert found.keys() <= candidates.keys()
        for key, score in found.items():
            assert score == pytest.approx(candidates[key], abs=1e-4)


def test_of_overlapping_boxes_of_two_classes_the_better_stays(labeled: LabeledData) -> None:
    names = set()
    for labels in labeled.usable_images():
        boxes = torch.from_numpy(labels.detections.boxes_xyxy)
        overlap = box_iou(boxes, boxes) - torch.eye(len(boxes))
        assert not len(boxes) or overlap.max() <= 0.7
        names.update(labels.detections.names)
    assert names == {"block", "can", "ball", "grape"}  # a purple ball may be either of two classes


def test_a_phrase_may_have_a_threshold(labeled: LabeledData) -> None:
    for labels in labeled.usable_images():
        for row, threshold in zip(labels.detections, labels.thresholds, strict=True):
            assert threshold == pytest.approx(0.9 if row.name == "can" else 0.7)
            assert row.score >= threshold - 0.1 - 1e-6


def test_a_broken_image_has_an_entry_with_the_reason(labeled: LabeledData) -> None:
    failed = [labels for labels in labeled if labels.error is not None]
    assert [labels.image for labels in failed] == ["broken.png"]
    assert "is not an image" in (failed[0].error or "")
    assert not labeled.plan.image_file("broken.png").exists()


def test_captions_are_grounded_as_by_ground(captioned: LabeledData, model: Mdetr) -> None:
    entries = list(captioned)
    assert [entry.text for entry in entries] == [
        "a red cube next to a purple ball",
        "two cylinders",
        "a cylinder",
    ]
    for entry in entries:
        assert entry.text is not None
        expected = model.ground(SCENES / entry.image, entry.text, threshold=0.7)
        assert entry.accepted.phrases == expected.phrases
        assert entry.accepted.spans == expected.detections.spans
        np.testing.assert_allclose(entry.accepted.scores, expected.scores, atol=1e-4)


def test_a_caption_that_is_too_long_costs_only_itself(tmp_path: Path) -> None:
    settings = label_settings(SCENES, phrases=())
    image = list_images(settings.sources)[0]
    planned = PlannedImage(image, ("word " * 300, "a cylinder"))
    plan = LabelPlan.create(tmp_path, settings, [planned])
    label_locally(plan, ProcessGroup(), "cpu")
    long, short = LabeledData(plan)
    assert long.text == "word " * 300
    assert "tokens" in (long.error or "")
    assert short.error is None
    assert set(short.accepted.phrases or ()) == {"a cylinder"}


def test_local_images_are_linked_or_copied_with_their_permissions_unchanged(tmp_path: Path) -> None:
    original = tmp_path / "a.png"
    original.write_bytes(b"content")
    original.chmod(0o440)
    _place_image(original, tmp_path / "out" / "linked.png", copy=False)
    _place_image(original, tmp_path / "out" / "copied.png", copy=True)
    _place_image(b"bytes", tmp_path / "out" / "written.png", copy=False)
    assert (tmp_path / "out" / "linked.png").samefile(original)
    assert not (tmp_path / "out" / "copied.png").samefile(original)
    assert (tmp_path / "out" / "copied.png").read_bytes() == b"content"
    assert (tmp_path / "out" / "written.png").read_bytes() == b"bytes"
    assert original.stat().st_mode & 0o777 == 0o440
