"""Training targets: boxes, token positions, answers and masks of each text."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2 import functional as tv

from mdetr.errors import InvalidInputError
from mdetr.model.answer_space import AnswerSpace
from mdetr.model.interface import Targets
from mdetr.processing.layouts import ImageLayout
from mdetr.processing.rle import decode_masks
from mdetr.processing.tokens import TokenizedText, exact_token_ranges, token_ranges


class TargetInput(TypedDict):
    """Target of one text; other keys, such as those of a record, are ignored.

    Attributes:
        boxes: N boxes x0, y0, x1, y1 in pixels of the original image.
        spans: For each box, spans (start, end) in characters of the text, end exclusive.
        is_referred: For each box, whether the text as a whole refers to it.
        masks: For each box, its pixels in the original image: (N, H, W) of 0 and 1, or COCO compressed RLE.
        answer: Answer to the question.
        answer_type: Type of the answer.
    """

    boxes: Sequence[Sequence[float]]
    spans: Sequence[Sequence[Sequence[int]]]
    is_referred: NotRequired[Sequence[bool] | None]
    masks: NotRequired[Tensor | Sequence[bytes] | None]
    answer: NotRequired[str | None]
    answer_type: NotRequired[str | None]


def make_targets(
    texts: Sequence[TokenizedText],
    targets: Sequence[TargetInput],
    layouts: Sequence[ImageLayout],
    num_positions: int,
    answers: AnswerSpace,
) -> Targets:
    """Convert the targets of B texts to tensors.

    Args:
        texts: B texts, padded to the same number of tokens.
        targets: B targets.
        layouts: Layout of each text's image in the batch.
        num_positions: Number of token positions of the model.
        answers: Answers that the model can give.

    Returns:
        Targets of the losses, padded to the largest number of boxes.

    Raises:
        InvalidInputError: A target is incomplete, a box is empty or not finite, a span is outside its text,
            or an answer is not in the model's vocabulary.
    """
    if len(targets) != len(texts):
        raise InvalidInputError(f"Expected a target for each of the {len(texts)} texts, got {len(targets)}.")
    for text, target in zip(texts, targets, strict=True):
        _check_target(target, text.text)

    # Allocate padded tensors
    num_texts, num_tokens = len(texts), len(texts[0].token_spans)
    num_boxes = max(len(target["boxes"]) for target in targets)
    boxes = torch.zeros(num_texts, num_boxes, 4)
    box_mask = torch.zeros(num_texts, num_boxes, dtype=torch.bool)
    positive_map = torch.zeros(num_texts, num_boxes, num_positions, dtype=torch.bool)
    alignment_map = torch.zeros(num_texts, num_boxes, num_tokens, dtype=torch.bool)
    is_referred = torch.zeros(num_texts, num_boxes)
    referred_mask = torch.zeros(num_texts, dtype=torch.bool)
    answer_ids = torch.full((num_texts, 2), -1)

    # Fill in the target of each text
    for row, (text, target, layout) in enumerate(zip(texts, targets, layouts, strict=True)):
        height, width = layout.given
        count = len(target["boxes"])
        box_mask[row, :count] = True
        if count:
            xyxy = _boxes_xyxy(target)
            boxes[row, :count] = box_convert(xyxy, "xyxy", "cxcywh") / torch.tensor([width, height] * 2)
        for box, spans in enumerate(target["spans"]):
            for first, last in token_ranges(text, spans):
                positive_map[row, box, first : last + 1] = True
            for first, last in exact_token_ranges(text, spans):
                alignment_map[row, box, first : last + 1] = True
        referred = target.get("is_referred")
        if referred is not None:
            referred_mask[row] = True
            is_referred[row, :count] = torch.tensor(referred, dtype=torch.float32)
        answer = target.get("answer")
        if answer is not None and answers.vocabulary:
            answer_ids[row] = torch.tensor(answers.encode(answer, target.get("answer_type")))

    tensors = Targets(
        boxes=boxes,
        box_mask=box_mask,
        positive_map=positive_map,
        alignment_map=alignment_map,
        is_referred=is_referred,
        referred_mask=referred_mask,
        answer_type=answer_ids[:, 0],
        answer=answer_ids[:, 1],
    )
    if any(target.get("masks") is not None for target in targets):
        tensors["masks"] = _pad_masks(targets, layouts, num_boxes)
    return tensors


def _pad_masks(
    targets: Sequence[TargetInput], layouts: Sequence[ImageLayout], num_boxes: int
) -> Bool[Tensor, "texts boxes height width"]:
    """Resize and pad the masks of all texts like their images."""
    padded = torch.zeros(len(targets), num_boxes, *layouts[0].padded, dtype=torch.bool)
    for row, (target, layout) in enumerate(zip(targets, layouts, strict=True)):
        given = target.get("masks")
        if given is None:
            if len(target["boxes"]):
                raise InvalidInputError(
                    "Some targets of the batch have masks, others have boxes without masks; give all or none."
                )
            continue
        masks = (
            given if isinstance(given, Tensor) else torch.from_numpy(decode_masks(list(given), *layout.given))
        )
        if tuple(masks.shape) != (len(target["boxes"]), *layout.given):
            raise InvalidInputError(
                f"Expected a mask of {layout.given[0]} x {layout.given[1]} pixels for each of the "
                f"{len(target['boxes'])} boxes, got {tuple(masks.shape)}."
            )
        height, width = layout.resized
        if len(masks):
            resized = tv.resize(masks.to(torch.uint8), [height, width], tv.InterpolationMode.NEAREST)
            padded[row, : len(masks), :height, :width] = resized.bool()
    return padded


def _check_target(target: TargetInput, text: str) -> None:
    """Check that the fields of a target fit together.

    Args:
        target: The target.
        text: Its text.

    Raises:
        InvalidInputError: A field is missing or has another length than the boxes, or a span is outside the
            text.
    """
    if not isinstance(target, Mapping) or not {"boxes", "spans"} <= target.keys():
        raise InvalidInputError('Expected a target with "boxes" and "spans" for each text.')
    count = len(target["boxes"])
    if len(target["spans"]) != count:
        raise InvalidInputError(
            f"Expected spans for each of the {count} boxes of a target, got {len(target['spans'])}."
        )
    referred = target.get("is_referred")
    if referred is not None and len(referred) != count:
        raise InvalidInputError(
            f"Expected is_referred for each of the {count} boxes of a target, got {len(referred)}."
        )
    for spans in target["spans"]:
        for span in spans:
            if not _is_span_of(span, len(text)):
                shown = ", ".join(map(str, span)) if isinstance(span, Sequence) else span
                raise InvalidInputError(
                    f"Span ({shown}) is empty or outside its text of {len(text)} characters, or not a start "
                    f"and an end: {text[:40]!r}."
                )


def _is_span_of(span: Any, length: int) -> bool:
    """Return whether a value is the start and the end of some characters of a text."""
    try:
        start, end = map(operator.index, span)
    except (TypeError, ValueError):
        return False
    return 0 <= start < end <= length


def _boxes_xyxy(target: TargetInput) -> Float[Tensor, "boxes 4"]:
    """Convert the boxes of a target, which has some, to a tensor.

    Args:
        target: The target.

    Returns:
        x0, y0, x1, y1 in pixels.

    Raises:
        InvalidInputError: A box is not four numbers, is not finite, or is empty.
    """
    try:
        boxes = torch.as_tensor(target["boxes"], dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        boxes = torch.zeros(0)
    if boxes.shape != (len(target["boxes"]), 4):
        raise InvalidInputError("Expected four numbers x0, y0, x1, y1 for each box of a target.")
    wrong = ~(boxes.isfinite().all(1) & (boxes[:, :2] < boxes[:, 2:]).all(1))
    if wrong.any():
        shown = ", ".join(f"{value:g}" for value in boxes[wrong][0].tolist())
        raise InvalidInputError(
            f"The box ({shown}) of a target is not finite or is empty; a box is x0, y0, x1, y1 with x0 < x1 "
            "and y0 < y1."
        )
    return boxes
