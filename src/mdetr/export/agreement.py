"""How many boxes of a model in float32 a quantized one keeps, on the images of its calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mdetr.export.model import ExportedOutput, GraphRunner
from mdetr.export.quantization import Calibration, CalibrationInputs
from mdetr.processing.boxes import pairwise_iou
from mdetr.processing.detections import Detections
from mdetr.processing.processor import MdetrProcessor

MAX_COMPARED = 50  # images
SAME_BOX = 0.5  # minimum intersection over union
_SIZE = 1000, 1000  # any size, since boxes are relative


@dataclass(frozen=True)
class Agreement:
    """Agreement of two models.

    Attributes:
        num_boxes: Number of boxes of the model in float32 above its threshold.
        num_kept: Number of these for which the other has a box of the same words with an intersection over
            union of at least `SAME_BOX`.
    """

    num_boxes: int
    num_kept: int

    def __str__(self) -> str:
        if not self.num_boxes:
            return (
                "The texts of the calibration mention nothing in its images, so the boxes could not be "
                "compared with those of fp32; give texts like yours with --texts."
            )
        return (
            f"int8 keeps {self.num_kept:,} of the {self.num_boxes:,} boxes that fp32 finds in the images of "
            "the calibration."
        )


def compare(
    calibration: Calibration, processor: MdetrProcessor, original: GraphRunner, quantized: GraphRunner
) -> Agreement:
    """Compare the boxes of two models for the images and texts of a calibration.

    Args:
        calibration: Images and texts.
        processor: Processor of both models.
        original: The graphs in float32.
        quantized: The quantized graphs.

    Returns:
        Their agreement.
    """
    num_boxes = num_kept = 0
    expected = CalibrationInputs(calibration, processor, original)
    got = CalibrationInputs(calibration, processor, quantized)
    for index in range(min(len(expected), MAX_COMPARED)):
        pairs = zip(_detect(expected, original, index), _detect(got, quantized, index), strict=True)
        for ours, theirs in pairs:
            num_boxes += len(ours)
            num_kept += _count_kept(ours, theirs)
    return Agreement(num_boxes, num_kept)


def _detect(inputs: CalibrationInputs, runner: GraphRunner, index: int) -> list[Detections]:
    """Ground the texts of an example in its image."""
    outputs = runner.run("fusion", inputs.fusion(index))
    arrays: dict[str, Any] = {name: outputs[name] for name in ("logits", "pred_boxes")}
    output = ExportedOutput(**arrays)
    texts = inputs.processor.tokenize_each(inputs.texts(index))
    return inputs.processor.post_process_grounding(output, texts, [_SIZE] * len(texts))


def _count_kept(expected: Detections, got: Detections) -> int:
    """Count the boxes for which there is another one of the same words and of nearly the same place."""
    overlaps = pairwise_iou(expected.boxes_xyxy, got.boxes_xyxy)
    kept = 0
    for phrase, row in zip(expected.names, overlaps.tolist(), strict=True):
        kept += any(
            overlap >= SAME_BOX and phrase == name for overlap, name in zip(row, got.names, strict=True)
        )
    return kept
