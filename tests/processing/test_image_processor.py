"""The image processor's reading of the model's output; how it makes tensors is in test_images.py."""

from __future__ import annotations

import pytest
import torch

from mdetr.errors import InvalidInputError
from mdetr.model.interface import MdetrOutput
from mdetr.processing.image_processor import MdetrImageProcessor


def _output() -> MdetrOutput:
    """One text, three queries: one is not sure, one is certain of token 2, the last finds nothing."""
    logits = torch.full((1, 3, 256), -20.0)
    logits[0, 0, [1, -1]] = torch.tensor([0.0, 0.0])
    logits[0, 1, 2] = 20.0
    logits[0, 2, -1] = 20.0
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.9, 0.5, 0.4, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    return MdetrOutput(logits=logits, pred_boxes=boxes)


def test_boxes_above_the_threshold_come_best_first_and_inside_the_image() -> None:
    (found,) = MdetrImageProcessor().post_process_object_detection(_output(), target_sizes=[(100, 200)])
    assert found["scores"].tolist() == pytest.approx([1.0, 0.5])
    assert found["labels"].tolist() == [2, 1]
    assert found["boxes"].flatten().tolist() == pytest.approx([140, 25, 200, 75, 50, 25, 150, 75])


def test_without_sizes_boxes_are_relative_and_a_higher_threshold_leaves_fewer() -> None:
    (found,) = MdetrImageProcessor().post_process_object_detection(_output(), threshold=0.6)
    assert found["boxes"].flatten().tolist() == pytest.approx([0.7, 0.25, 1.0, 0.75])


def test_sizes_of_other_than_the_texts_images_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="each of the 1 texts, got 2"):
        MdetrImageProcessor().post_process_object_detection(_output(), target_sizes=torch.ones(2, 2))
