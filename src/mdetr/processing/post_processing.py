"""Post-processing: boxes, masks and phrases from the model's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou

from mdetr.errors import InvalidInputError
from mdetr.model.answers import AnswerSpace
from mdetr.model.interface import MdetrOutput
from mdetr.processing.coordinates import Size, Span, Spans
from mdetr.processing.detections import GAP, Detections
from mdetr.processing.images import ImageLayout
from mdetr.processing.prediction import Prediction
from mdetr.processing.tokens import TokenizedText
from mdetr.processing.words import Words

TargetSizes = Sequence[Size] | Tensor
"""(height, width) of each text's image in pixels, also as a tensor (B, 2)."""


@torch.no_grad()
def post_process_boxes(output: MdetrOutput, sizes: Sequence[Size]) -> list[Detections]:
    """Every query's box and scores, per text, in the order of the queries.

    Args:
        output: the model's, for B texts with Q queries.
        sizes: (height, width) of each text's image as given, in pixels.

    Returns:
        Per text Q boxes, which may leave the image, with their scores, and with score * p(referred) where the
        model predicts it.
    """
    logits, pred_boxes = _logits(output), output.pred_boxes
    assert pred_boxes is not None
    if len(sizes) != len(logits):
        raise InvalidInputError(
            f"Expected the image size of each of the {len(logits)} texts, found {len(sizes)}."
        )
    scores = 1 - logits.float().softmax(-1)[..., -1]  # (B, Q)
    scale = torch.tensor(
        [(width, height, width, height) for height, width in sizes], device=pred_boxes.device
    )
    boxes = box_convert(pred_boxes.float(), "cxcywh", "xyxy") * scale[:, None]  # (B, Q, 4)
    arrays = [boxes.cpu().numpy(), scores.cpu().numpy()]
    if output.referred_logits is None:
        return list(map(Detections, *arrays))
    referred = (scores * output.referred_logits.float().sigmoid()).cpu().numpy()
    return [
        Detections(of_boxes, of_scores, referred_scores=of_referred)
        for of_boxes, of_scores, of_referred in zip(*arrays, referred, strict=True)
    ]


def post_process_grounding(
    output: MdetrOutput,
    texts: Sequence[TokenizedText],
    sizes: Sequence[Size],
    threshold: float = 0.7,
    token_threshold: float = 0.1,
    max_overlap: float = 0.7,
) -> list[Detections]:
    """The things that each text mentions, best first, with the words of each.

    Args:
        output: the model's, for B texts.
        texts: the texts with their tokens.
        sizes: (height, width) of each text's image as given, in pixels.
        threshold: a query is kept if its score, 1 - p(no object), is above this.
        max_overlap: a box is left out if its intersection over union with a better one of the same words
            is above this; 1 keeps all.
        token_threshold: a query's words are those with a token whose probability is above this. Words that
            touch, or have only white space between them, make one span; special tokens are never words.
            Where no token is as probable, since a long phrase shares its probability among many, they are
            those at least half as probable as the likeliest.
    """
    probabilities = _logits(output).detach().float().softmax(-1).cpu()  # (B, Q, positions)
    results: list[Detections] = []
    for row, (tokenized, queries) in enumerate(zip(texts, post_process_boxes(output, sizes), strict=True)):
        queries = _clamped(queries, sizes[row])
        boxes, scores = torch.from_numpy(queries.boxes_xyxy), torch.from_numpy(queries.scores)
        kept: list[int] = []
        spans_of_kept: list[Spans] = []
        boxes_of: dict[Spans, Tensor] = {}  # the boxes of each phrase so far
        for query in scores.argsort(descending=True, stable=True).tolist():
            if not scores[query] > threshold:
                break
            # The words of this query
            of_tokens = probabilities[row, query, :-1]
            least = token_threshold if of_tokens.max() > token_threshold else float(of_tokens.max()) / 2
            tokens = (of_tokens > least).nonzero()[:, 0].tolist()
            spans = _spans_of_tokens(tokenized, tokens)
            # Skip a box that overlaps a better one of the same words
            box, others = boxes[query][None], boxes_of.get(spans, boxes[:0])
            if (box_iou(box, others) > max_overlap).any():
                continue
            boxes_of[spans] = torch.cat((others, box))
            kept.append(query)
            spans_of_kept.append(spans)
        phrases = [GAP.join(tokenized.text[start:end] for start, end in spans) for spans in spans_of_kept]
        results.append(replace(queries[kept], phrases=tuple(phrases), spans=tuple(spans_of_kept)))
    return results


def post_process_grounded_object_detection(
    output: MdetrOutput,
    texts: Sequence[TokenizedText],
    threshold: float,
    token_threshold: float,
    target_sizes: TargetSizes | None,
) -> list[dict[str, Any]]:
    """The things that each text mentions, in the form that users of Grounding DINO know.

    They are those of `post_process_grounding`; see `MdetrProcessor.post_process_grounded_object_detection`.
    """
    sizes = _sizes(target_sizes, len(texts))
    device = _logits(output).device
    return [
        {
            "scores": torch.from_numpy(found.scores).to(device),
            "boxes": torch.from_numpy(found.boxes_xyxy).to(device),
            "text_labels": list(found.names),
            "labels": list(found.names),
        }
        for found in post_process_grounding(output, texts, sizes, threshold, token_threshold)
    ]


@torch.no_grad()
def post_process_object_detection(
    output: MdetrOutput, threshold: float, target_sizes: TargetSizes | None
) -> list[dict[str, Tensor]]:
    """The boxes that were found for each text, best first, in the form that users of DETR know.

    See `MdetrImageProcessor.post_process_object_detection`.
    """
    likeliest = _logits(output)[..., :-1].argmax(-1)  # (B, Q)
    sizes = _sizes(target_sizes, len(likeliest))
    results: list[dict[str, Tensor]] = []
    for size, tokens, queries in zip(sizes, likeliest, post_process_boxes(output, sizes), strict=True):
        found, order = _best_first(_clamped(queries, size), threshold)
        results.append(
            {
                "scores": torch.from_numpy(found.scores).to(tokens.device),
                "labels": tokens[order.to(tokens.device)],
                "boxes": torch.from_numpy(found.boxes_xyxy).to(tokens.device),
            }
        )
    return results


def _sizes(target_sizes: TargetSizes | None, count: int) -> list[Size]:
    """(height, width) of each image; (1, 1) where none are given, for boxes relative to the image."""
    if target_sizes is None:
        return [(1, 1)] * count
    sizes = target_sizes.tolist() if isinstance(target_sizes, Tensor) else target_sizes
    if len(sizes) != count:
        raise InvalidInputError(
            f"target_sizes must have (height, width) for each of the {count} texts; found {len(sizes)}."
        )
    return [(int(height), int(width)) for height, width in sizes]


def post_process_referring(
    output: MdetrOutput, texts: Sequence[str], sizes: Sequence[Size], threshold: float = 0
) -> list[Detections]:
    """The one thing that each text as a whole refers to.

    Things are ranked by their referred score, or by their score where the model does not predict that.

    Args:
        output: the model's, for B texts.
        texts: the texts.
        sizes: (height, width) of each text's image as given, in pixels.
        threshold: where the best is below this, nothing was found.

    Returns:
        Per text one thing or none, whose phrase is the whole text.
    """
    results: list[Detections] = []
    for text, size, queries in zip(texts, sizes, post_process_boxes(output, sizes), strict=True):
        ranking = queries.scores if queries.referred_scores is None else queries.referred_scores
        best = int(ranking.argmax())
        kept = [best] if ranking[best] >= threshold else []
        results.append(_of_whole_text(text, _clamped(queries, size)[kept]))
    return results


def post_process_segmentation(
    output: MdetrOutput, texts: Sequence[str], layouts: Sequence[ImageLayout], threshold: float = 0.7
) -> list[Detections]:
    """The things that each text as a whole refers to, best first, with their masks.

    Args:
        output: the model's, for B texts.
        texts: the texts.
        layouts: how each text's image lies in the batch.
        threshold: a query is kept if its score, 1 - p(no object), is above this.

    Raises:
        InvalidInputError: the model predicts no masks.
    """
    sizes = [layout.given for layout in layouts]
    results: list[Detections] = []
    orders: list[Tensor] = []
    for text, size, queries in zip(texts, sizes, post_process_boxes(output, sizes), strict=True):
        found, order = _best_first(_clamped(queries, size), threshold)
        results.append(_of_whole_text(text, found))
        orders.append(order)
    masks = post_process_masks(output, orders, layouts)
    return [replace(found, masks=own.numpy()) for found, own in zip(results, masks, strict=True)]


def post_process_predictions(
    output: MdetrOutput,
    texts: Sequence[TokenizedText],
    layouts: Sequence[ImageLayout],
    answers: AnswerSpace,
) -> list[Prediction]:
    """All that the model predicts for each text, for metrics.

    Args:
        output: the model's, for B texts.
        texts: the texts with their tokens.
        layouts: how each text's image lies in the batch.
        answers: what the model can answer.
    """
    probabilities = _logits(output).detach().float().softmax(-1).cpu().numpy()
    queries = post_process_boxes(output, [layout.given for layout in layouts])
    segments: Sequence[Detections | None] = [None] * len(texts)
    if output.pred_masks is not None:
        segments = post_process_segmentation(output, [text.text for text in texts], layouts)
    given: Sequence[str | None] = [None] * len(texts)
    if output.answer_logits is not None:
        given = [answer for answer, _, _ in answers.decode(output.answer_logits)]
    parts = zip(queries, texts, probabilities, segments, given, strict=True)
    return [Prediction(*of_text) for of_text in parts]


def _best_first(queries: Detections, threshold: float) -> tuple[Detections, Tensor]:
    """The queries with a score above a threshold, best first, and their indices (n,) int64."""
    scores = torch.from_numpy(queries.scores)
    order = scores.argsort(descending=True, stable=True)
    kept = order[scores[order] > threshold]
    return queries[kept.numpy()], kept


def _of_whole_text(text: str, found: Detections) -> Detections:
    """The same things, all of whose words are the whole text."""
    return replace(found, phrases=(text,) * len(found), spans=(((0, len(text)),),) * len(found))


def _clamped(found: Detections, size: Size) -> Detections:
    """The same things, their boxes cut at the border of an image of (height, width)."""
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    return replace(found, boxes_xyxy=found.boxes_xyxy.clip(0, limits))


@torch.no_grad()
def post_process_masks(
    output: MdetrOutput, queries: Sequence[Tensor], layouts: Sequence[ImageLayout]
) -> list[Tensor]:
    """The masks of some queries, in the pixels of each text's image as given.

    Args:
        output: the model's, for B texts.
        queries: per text, the n queries that are wanted, int64.
        layouts: how each text's image lies in the batch.

    Returns:
        Per text (n, H, W) bool.

    Source: arXiv 2104.12763, section 4.2.2 (PhraseCut).
    """
    if output.pred_masks is None:
        raise InvalidInputError("This model predicts no masks; take one that was trained for segmentation.")
    results: list[Tensor] = []
    for masks, wanted, layout in zip(output.pred_masks.float(), queries, layouts, strict=True):
        height, width = layout.resized
        if not len(wanted):
            results.append(torch.zeros(0, *layout.given, dtype=torch.bool))
            continue
        padded = F.interpolate(masks[wanted][None], size=layout.padded, mode="bilinear")
        whole = F.interpolate(padded[..., :height, :width], size=layout.given, mode="bilinear")[0]
        results.append((whole > 0).cpu())
    return results


def _spans_of_tokens(tokenized: TokenizedText, tokens: Sequence[int]) -> Spans:
    """The whole words that some tokens of a text belong to, as maximal spans of characters."""
    text = tokenized.text
    words = Words(text)
    spans: list[Span] = []
    for token in tokens:
        if token >= len(tokenized.token_spans):
            continue
        start, end = tokenized.token_spans[token]
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        if start == end:
            continue
        start, end = words.expand(start, end)
        if spans and not text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return tuple(spans)


def _logits(output: MdetrOutput) -> Tensor:
    assert output.logits is not None
    return output.logits
