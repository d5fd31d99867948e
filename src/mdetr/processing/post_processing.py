"""Post-processing: converts the model's output to boxes, phrases and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy.typing import NDArray

from mdetr.errors import InvalidInputError
from mdetr.model.answer_space import AnswerSpace
from mdetr.model.predictions import Predictions
from mdetr.model.tensors import Tensor, is_tensor, sigmoid, softmax, to_array
from mdetr.processing.boxes import pairwise_iou, to_corners
from mdetr.processing.coordinates import Size, Span, Spans
from mdetr.processing.detections import GAP, MAX_OVERLAP, Detections
from mdetr.processing.layouts import ImageLayout
from mdetr.processing.prediction import Prediction
from mdetr.processing.resizing import resize_linearly
from mdetr.processing.tokens import TokenizedText
from mdetr.processing.words import Words

TargetSizes = Sequence[Size] | Tensor
"""(height, width) of each text's image in pixels, also as a tensor (B, 2)."""


def post_process_boxes(output: Predictions, sizes: Sequence[Size]) -> list[Detections]:
    """Convert the boxes and scores of all queries, in the order of the queries.

    Args:
        output: Output of the model for B texts with Q queries.
        sizes: (height, width) of each text's original image, in pixels.

    Returns:
        For each text Q boxes, which may extend beyond the image, with their scores, and with
        score * p(referred) if the model predicts it.

    Raises:
        InvalidInputError: The number of sizes differs from the number of texts.
    """
    probabilities = _probabilities(output)
    if len(sizes) != len(probabilities):
        raise InvalidInputError(
            f"Expected the image size of each of the {len(probabilities)} texts, got {len(sizes)}."
        )

    # Scores, and boxes in pixels
    assert output.pred_boxes is not None
    scores = 1 - probabilities[..., -1]  # (B, Q)
    scale = np.array([(width, height, width, height) for height, width in sizes], np.float32)
    boxes = to_corners(to_array(output.pred_boxes).astype(np.float32)) * scale[:, None]  # (B, Q, 4)
    referred_scores: Sequence[NDArray[np.float32] | None] = [None] * len(sizes)
    if output.referred_logits is not None:
        referred_scores = list(scores * sigmoid(to_array(output.referred_logits)))

    # One `Detections` for each text
    results: list[Detections] = []
    for text_boxes, text_scores, text_referred in zip(boxes, scores, referred_scores, strict=True):
        results.append(Detections(text_boxes, text_scores, referred_scores=text_referred))
    return results


def post_process_grounding(
    output: Predictions,
    texts: Sequence[TokenizedText],
    sizes: Sequence[Size],
    threshold: float = 0.7,
    token_threshold: float = 0.1,
    max_overlap: float = MAX_OVERLAP,
) -> list[Detections]:
    """Find the objects that each text mentions, best first, with the words of each.

    Args:
        output: Output of the model for B texts.
        texts: The texts with their tokens.
        sizes: (height, width) of each text's original image, in pixels.
        threshold: Minimum score, 1 - p(no object), of a query.
        token_threshold: Minimum probability of a token whose word belongs to a query. If no token of a query
            reaches it, because a long phrase spreads its probability over many tokens, the minimum is half of
            the query's largest probability. Adjacent words form one span; special tokens are never words.
        max_overlap: Maximum intersection over union with a better box of the same words; 1 keeps all boxes.

    Returns:
        For each text its detections, with phrases and spans; boxes are clipped to the image.
    """
    probabilities = _probabilities(output)  # (B, Q, positions)
    results: list[Detections] = []
    for row, (tokenized, queries) in enumerate(zip(texts, post_process_boxes(output, sizes), strict=True)):
        queries = _clip(queries, sizes[row])
        boxes, scores = queries.boxes_xyxy, queries.scores
        kept: list[int] = []
        kept_spans: list[Spans] = []
        kept_boxes: dict[Spans, NDArray[np.float32]] = {}  # phrase -> its boxes so far
        for query in _best_order(scores).tolist():
            if not scores[query] > np.float32(threshold):
                break

            # Find the words of this query
            token_scores = probabilities[row, query, :-1]
            largest = float(token_scores.max())
            minimum = token_threshold if largest > token_threshold else largest / 2
            tokens = np.flatnonzero(token_scores > np.float32(minimum)).tolist()
            spans = _spans_of_tokens(tokenized, tokens)

            # Skip a box that overlaps a better one of the same words
            box, others = boxes[query][None], kept_boxes.get(spans, boxes[:0])
            if (pairwise_iou(box, others) > max_overlap).any():
                continue
            kept_boxes[spans] = np.concatenate((others, box))
            kept.append(query)
            kept_spans.append(spans)
        phrases = tuple(_phrase(tokenized.text, spans) for spans in kept_spans)
        results.append(replace(queries[kept], phrases=phrases, spans=tuple(kept_spans)))
    return results


def _phrase(text: str, spans: Spans) -> str:
    return GAP.join(text[start:end] for start, end in spans)


def post_process_grounded_object_detection(
    output: Predictions,
    texts: Sequence[TokenizedText],
    threshold: float,
    token_threshold: float,
    target_sizes: TargetSizes | None,
) -> list[dict[str, Any]]:
    """Find the objects that each text mentions, in the format of Grounding DINO.

    Args:
        output: Output of the model for B texts.
        texts: The texts with their tokens.
        threshold: Minimum score of a box.
        token_threshold: Minimum probability of a token whose word belongs to a box.
        target_sizes: (height, width) of each text's original image, in pixels; None for relative boxes.

    Returns:
        See `MdetrProcessor.post_process_grounded_object_detection`.
    """
    sizes = _sizes(target_sizes, len(texts))
    results: list[dict[str, Any]] = []
    for detections in post_process_grounding(output, texts, sizes, threshold, token_threshold):
        results.append(
            {
                "scores": _like_logits(output, detections.scores),
                "boxes": _like_logits(output, detections.boxes_xyxy),
                "text_labels": list(detections.names),
                "labels": list(detections.names),
            }
        )
    return results


def post_process_object_detection(
    output: Predictions, threshold: float, target_sizes: TargetSizes | None
) -> list[dict[str, Tensor]]:
    """Convert the output to boxes of each text, best first, in the format of DETR.

    Args:
        output: Output of the model for B texts.
        threshold: Minimum score of a box.
        target_sizes: (height, width) of each text's original image, in pixels; None for relative boxes.

    Returns:
        See `MdetrImageProcessor.post_process_object_detection`.
    """
    best_tokens = _logits(output)[..., :-1].argmax(-1)  # (B, Q)
    sizes = _sizes(target_sizes, len(best_tokens))
    results: list[dict[str, Tensor]] = []
    for size, tokens, queries in zip(sizes, best_tokens, post_process_boxes(output, sizes), strict=True):
        detections, order = _best_first(_clip(queries, size), threshold)
        results.append(
            {
                "scores": _like_logits(output, detections.scores),
                "labels": _like_logits(output, tokens[order]),
                "boxes": _like_logits(output, detections.boxes_xyxy),
            }
        )
    return results


def _sizes(target_sizes: TargetSizes | None, count: int) -> list[Size]:
    """Return (height, width) of each image; (1, 1) if no sizes are given, for relative boxes."""
    if target_sizes is None:
        return [(1, 1)] * count
    sizes = to_array(target_sizes).tolist() if is_tensor(target_sizes) else target_sizes
    if len(sizes) != count:
        raise InvalidInputError(
            f"Expected (height, width) in target_sizes for each of the {count} texts, got {len(sizes)}."
        )
    return [(int(height), int(width)) for height, width in sizes]


def post_process_referring(
    output: Predictions, texts: Sequence[str], sizes: Sequence[Size], threshold: float = 0
) -> list[Detections]:
    """Find the one object that each text as a whole refers to.

    Queries are ranked by their referred score, or by their score if the model does not predict that.

    Args:
        output: Output of the model for B texts.
        texts: The texts.
        sizes: (height, width) of each text's original image, in pixels.
        threshold: Minimum of the best score.

    Returns:
        For each text one detection, or none below the threshold; its phrase is the whole text.
    """
    results: list[Detections] = []
    for text, size, queries in zip(texts, sizes, post_process_boxes(output, sizes), strict=True):
        ranking = queries.scores if queries.referred_scores is None else queries.referred_scores
        best = int(ranking.argmax())
        kept = [best] if ranking[best] >= threshold else []
        results.append(_as_whole_text(text, _clip(queries, size)[kept]))
    return results


def post_process_segmentation(
    output: Predictions, texts: Sequence[str], layouts: Sequence[ImageLayout], threshold: float = 0.7
) -> list[Detections]:
    """Find the objects that each text as a whole refers to, best first, with their masks.

    Args:
        output: Output of the model for B texts.
        texts: The texts.
        layouts: Layout of each text's image in the batch.
        threshold: Minimum score, 1 - p(no object), of a query.

    Returns:
        For each text its detections with masks; their phrase is the whole text.

    Raises:
        InvalidInputError: The model does not predict masks.
    """
    sizes = [layout.given for layout in layouts]
    results: list[Detections] = []
    orders: list[NDArray[np.intp]] = []
    for text, size, queries in zip(texts, sizes, post_process_boxes(output, sizes), strict=True):
        detections, order = _best_first(_clip(queries, size), threshold)
        results.append(_as_whole_text(text, detections))
        orders.append(order)
    all_masks = post_process_masks(output, orders, layouts)
    return [replace(detections, masks=masks) for detections, masks in zip(results, all_masks, strict=True)]


def post_process_predictions(
    output: Predictions,
    texts: Sequence[TokenizedText],
    layouts: Sequence[ImageLayout],
    answers: AnswerSpace,
) -> list[Prediction]:
    """Convert everything that the model predicts for each text, for metrics.

    Args:
        output: Output of the model for B texts.
        texts: The texts with their tokens.
        layouts: Layout of each text's image in the batch.
        answers: Answers that the model can give.

    Returns:
        For each text all queries, token probabilities, segments and answer.
    """
    probabilities = _probabilities(output)
    queries = post_process_boxes(output, [layout.given for layout in layouts])
    segments: Sequence[Detections | None] = [None] * len(texts)
    if output.pred_masks is not None:
        segments = post_process_segmentation(output, [text.text for text in texts], layouts)
    best_answers: Sequence[str | None] = [None] * len(texts)
    if output.answer_logits is not None:
        best_answers = [answer for answer, _, _ in answers.decode(output.answer_logits)]
    fields = zip(queries, texts, probabilities, segments, best_answers, strict=True)
    return [Prediction(*values) for values in fields]


def _best_first(queries: Detections, threshold: float) -> tuple[Detections, Int[np.ndarray, "kept"]]:
    """Select the queries above a threshold, best first; also return their indices."""
    order = _best_order(queries.scores)
    kept = order[queries.scores[order] > np.float32(threshold)]
    return queries[kept], kept


def _best_order(scores: Float32[np.ndarray, "queries"]) -> Int[np.ndarray, "queries"]:
    """Order queries by score, best first; of equal ones the first comes first."""
    return np.argsort(-scores, kind="stable")


def _as_whole_text(text: str, detections: Detections) -> Detections:
    """Make the whole text the phrase of each detection."""
    count = len(detections)
    return replace(detections, phrases=(text,) * count, spans=(((0, len(text)),),) * count)


def _clip(detections: Detections, size: Size) -> Detections:
    """Clip boxes to an image of (height, width)."""
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    return replace(detections, boxes_xyxy=detections.boxes_xyxy.clip(0, limits))


def post_process_masks(
    output: Predictions, queries: Sequence[Int[np.ndarray, "_"]], layouts: Sequence[ImageLayout]
) -> list[Bool[np.ndarray, "_ _ _"]]:
    """Convert the masks of some queries to pixels of the original images.

    Args:
        output: Output of the model for B texts.
        queries: For each text, the indices of n queries.
        layouts: Layout of each text's image in the batch.

    Returns:
        For each text (n, H, W).

    Raises:
        InvalidInputError: The model does not predict masks.

    Source: arXiv 2104.12763, section 4.2.2 (PhraseCut).
    """
    if output.pred_masks is None:
        raise InvalidInputError(
            "Expected a model that predicts masks, got one without; use one trained for segmentation."
        )
    results: list[NDArray[np.bool_]] = []
    for masks, indices, layout in zip(output.pred_masks, queries, layouts, strict=True):
        height, width = layout.resized
        logits = to_array(masks[indices]).astype(np.float32, copy=False)
        original = np.zeros((len(indices), *layout.given), np.bool_)
        for values, mask in zip(logits, original, strict=True):
            padded = resize_linearly(values, layout.padded)
            mask[:] = resize_linearly(padded[:height, :width], layout.given) > 0
        results.append(original)
    return results


def _spans_of_tokens(tokenized: TokenizedText, tokens: Sequence[int]) -> Spans:
    """Find the whole words that some tokens of a text belong to, merged to maximal spans of characters.

    Args:
        tokenized: The text with its tokens.
        tokens: Indices of tokens, in order; padding and special tokens are ignored.

    Returns:
        The spans, in order.
    """
    text = tokenized.text
    words = Words(text)
    spans: list[Span] = []
    for token in tokens:
        if token >= len(tokenized.token_spans):
            continue

        # Strip white space, and expand to whole words
        start, end = tokenized.token_spans[token]
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        if start == end:
            continue
        start, end = words.expand(start, end)

        # Merge with the previous span if only white space is between them
        if spans and not text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return tuple(spans)


def _probabilities(output: Predictions) -> Float32[np.ndarray, "batch queries positions"]:
    """Probability of each token position; the last is "no object"."""
    return softmax(_logits(output))


def _logits(output: Predictions) -> Float[np.ndarray, "batch queries positions"]:
    assert output.logits is not None
    return to_array(output.logits)


def _like_logits(output: Predictions, values: NDArray[Any]) -> Any:
    """Convert an array to what the output holds: a tensor on the same device, or an array."""
    if not is_tensor(output.logits):
        return values
    import torch

    assert output.logits is not None
    return torch.from_numpy(values).to(output.logits.device)
