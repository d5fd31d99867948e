"""Per-record predictions, taken out of a batch of model output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.model.interface import MdetrOutput
from mdetr.processing.post_processing import post_process_boxes


@dataclass(frozen=True)
class Prediction:
    """What the model says of one record's text with its Q queries; float32 on the CPU.

    boxes: (Q, 4) x0, y0, x1, y1 in pixels of the original image, not cut at its border.
    token_probabilities: (Q, T), how likely each query speaks of each token position; the last is "no object".
    scores: (Q,), 1 - p(no object).
    referred_scores: (Q,), the same times the probability of being referred to; None without that head.
    """

    boxes: Tensor
    token_probabilities: Tensor
    scores: Tensor
    referred_scores: Tensor | None


def predictions_of(output: MdetrOutput, records: Sequence[Record]) -> list[Prediction]:
    """Take apart the model's output for B texts into what it says of each of their B records.

    Raises:
        InvalidInputError: there are more or fewer records than texts.
    """
    logits, pred_boxes = _on_cpu(output.logits), _on_cpu(output.pred_boxes)
    found = 0 if logits is None else len(logits)
    if logits is None or found != len(records):
        raise InvalidInputError(
            f"Expected the model's output for {len(records)} records, found it for {found} texts: score each "
            "batch with its own records."
        )
    plain = MdetrOutput(logits=logits, pred_boxes=pred_boxes, referred_logits=_on_cpu(output.referred_logits))
    boxes = post_process_boxes(plain, [(record.height, record.width) for record in records])
    probabilities = logits.softmax(-1)
    return [
        Prediction(record_boxes, record_probabilities, scores, referred_scores)
        for (record_boxes, scores, referred_scores), record_probabilities in zip(
            boxes, probabilities, strict=True
        )
    ]


def _on_cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().cpu()
