"""Training targets of texts: boxes, token positions, answers and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2 import functional as tv

from mdetr.errors import InvalidInputError
from mdetr.model.answers import AnswerSpace
from mdetr.model.interface import Targets
from mdetr.processing.images import ImageLayout
from mdetr.processing.rle import decode_masks
from mdetr.processing.tokens import TokenizedText, exact_token_ranges, token_ranges


class TargetInput(TypedDict):
    """What one text should be answered with; the other fields of a record may be there too.

    boxes: N boxes x0, y0, x1, y1 in pixels of the image given. spans: per box, characters of the text,
    (start, end) with end exclusive. is_referred: per box, whether the text as a whole denotes it.
    masks: per box, its pixels: (n, H, W) of 0 and 1, or COCO's compressed RLE counts, in pixels of the image
    given. answer, answer_type: of a question.
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
    """Turn the targets of B texts into tensors.

    Args:
        texts, targets, layouts: B each; the texts are padded to one number of tokens, and `layouts` says how
            each text's image lies in the batch.
        num_positions: token positions of the model.
        answers: what the model can answer.

    Raises:
        InvalidInputError: a target is incomplete, a span is outside its text, an answer has no id.
    """
    if len(targets) != len(texts):
        raise InvalidInputError(
            f"Expected a target for each of the {len(texts)} texts, found {len(targets)}."
        )
    num_texts, num_tokens = len(texts), len(texts[0].token_spans)
    num_boxes = max(len(target["boxes"]) for target in targets)
    boxes = torch.zeros(num_texts, num_boxes, 4)
    box_mask = torch.zeros(num_texts, num_boxes, dtype=torch.bool)
    positive_map = torch.zeros(num_texts, num_boxes, num_positions, dtype=torch.bool)
    alignment_map = torch.zeros(num_texts, num_boxes, num_tokens, dtype=torch.bool)
    is_referred = torch.zeros(num_texts, num_boxes)
    referred_mask = torch.zeros(num_texts, dtype=torch.bool)
    answer_ids = torch.full((num_texts, 2), -1)
    for row, (text, target, layout) in enumerate(zip(texts, targets, layouts, strict=True)):
        _check_target(target, text.text)
        height, width = layout.given
        count = len(target["boxes"])
        box_mask[row, :count] = True
        if count:
            xyxy = torch.tensor(target["boxes"], dtype=torch.float32)
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
    made = Targets(
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
        made["masks"] = _pad_masks(targets, layouts, num_boxes)
    return made


def _pad_masks(targets: Sequence[TargetInput], layouts: Sequence[ImageLayout], num_boxes: int) -> Tensor:
    """The masks of all texts, resized and padded as their images are: (B, N, H, W) bool."""
    padded = torch.zeros(len(targets), num_boxes, *layouts[0].padded, dtype=torch.bool)
    for row, (target, layout) in enumerate(zip(targets, layouts, strict=True)):
        given = target.get("masks")
        if given is None:
            if len(target["boxes"]):
                raise InvalidInputError("Some targets of the batch have masks, others have boxes without.")
            continue
        masks = given if isinstance(given, Tensor) else decode_masks(list(given), *layout.given)
        if tuple(masks.shape) != (len(target["boxes"]), *layout.given):
            raise InvalidInputError(
                f"Expected a mask of {layout.given[0]} x {layout.given[1]} pixels for each of the "
                f"{len(target['boxes'])} boxes, found {tuple(masks.shape)}."
            )
        height, width = layout.resized
        if len(masks):
            resized = tv.resize(masks.to(torch.uint8), [height, width], tv.InterpolationMode.NEAREST)
            padded[row, : len(masks), :height, :width] = resized.bool()
    return padded


def _check_target(target: TargetInput, text: str) -> None:
    count = len(target["boxes"])
    if len(target["spans"]) != count:
        raise InvalidInputError(
            f"A target needs spans for each of its {count} boxes, found {len(target['spans'])}."
        )
    referred = target.get("is_referred")
    if referred is not None and len(referred) != count:
        raise InvalidInputError(
            f"A target needs is_referred for each of its {count} boxes, found {len(referred)}."
        )
    for spans in target["spans"]:
        for start, end in spans:
            if not 0 <= start < end <= len(text):
                raise InvalidInputError(
                    f"Span ({start}, {end}) is empty or outside its text of {len(text)} characters: "
                    f"{text[:40]!r}."
                )
