"""Post-processing: boxes, masks and phrases from the model's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou
from transformers import BatchEncoding, PreTrainedTokenizerBase

from mdetr.errors import InvalidInputError
from mdetr.model.interface import MdetrOutput
from mdetr.processing.detections import GAP, Detections, Span, Spans
from mdetr.processing.images import Placement, Size
from mdetr.processing.words import Words

TargetSizes = Sequence[Size] | Tensor
"""(height, width) of each text's image in pixels, also as a tensor (B, 2)."""


@dataclass(frozen=True)
class TokenizedText:
    """A text, and the characters that each of its tokens covers: none for special tokens and padding."""

    text: str
    token_spans: Sequence[Span]


def tokenized_texts(encoding: BatchEncoding, texts: Sequence[str]) -> list[TokenizedText]:
    """The texts of an encoding, with the characters of their tokens."""
    return [
        TokenizedText(
            text,
            [
                (0, 0) if special else span
                for span, special in zip(row.offsets, row.special_tokens_mask, strict=True)
            ],
        )
        for text, row in zip(texts, encoding.encodings or (), strict=True)
    ]


def read_back(tokenizer: PreTrainedTokenizerBase, input_ids: Tensor) -> list[TokenizedText]:
    """The texts that token ids (B, L) stand for, as the tokenizer spells them."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    texts: list[TokenizedText] = []
    for ids in input_ids.tolist():
        ordinary = [token for token in ids if token not in special]
        # What each token adds to the text before it; a token may hold a part of a character only
        text = _decode(tokenizer, ordinary)
        ends = [
            _common_length(text, _decode(tokenizer, ordinary[:count])) for count in range(len(ordinary) + 1)
        ]
        spans = iter(pairwise(ends))
        texts.append(TokenizedText(text, [(0, 0) if token in special else next(spans) for token in ids]))
    return texts


def _common_length(a: str, b: str) -> int:
    """How many characters two texts have in common from their start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def post_process_boxes(
    output: MdetrOutput, sizes: Sequence[Size]
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Every query's box and scores, per text.

    Args:
        output: the model's, for B texts with Q queries.
        sizes: (height, width) of each text's image as given, in pixels.

    Returns:
        Per text: boxes (Q, 4) x0, y0, x1, y1 in pixels, not clamped; scores (Q,) = 1 - p(no object); and
        score * p(referred) (Q,), or None where the model does not predict it.
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
    if output.referred_logits is None:
        return [(boxes[row], scores[row], None) for row in range(len(boxes))]
    referred = scores * output.referred_logits.float().sigmoid()
    return [(boxes[row], scores[row], referred[row]) for row in range(len(boxes))]


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
    probabilities = _logits(output).float().softmax(-1).cpu()  # (B, Q, positions)
    results: list[Detections] = []
    for row, (tokenized, (boxes, scores, referred)) in enumerate(
        zip(texts, post_process_boxes(output, sizes), strict=True)
    ):
        boxes, scores = _clamped(boxes.cpu(), sizes[row]), scores.cpu()
        kept: list[int] = []
        spans_of_kept: list[Spans] = []
        places: dict[Spans, Tensor] = {}  # the boxes of each phrase so far
        for query in scores.argsort(descending=True, stable=True).tolist():
            if not scores[query] > threshold:
                break
            chances = probabilities[row, query, :-1]
            least = token_threshold if chances.max() > token_threshold else float(chances.max()) / 2
            tokens = (chances > least).nonzero()[:, 0].tolist()
            spans = _spans_of_tokens(tokenized, tokens)
            place, others = boxes[query][None], places.get(spans, boxes[:0])
            if (box_iou(place, others) > max_overlap).any():
                continue
            places[spans] = torch.cat((others, place))
            kept.append(query)
            spans_of_kept.append(spans)
        results.append(
            Detections(
                boxes[kept].numpy(),
                scores[kept].numpy(),
                phrases=tuple(
                    GAP.join(tokenized.text[start:end] for start, end in spans) for spans in spans_of_kept
                ),
                spans=tuple(spans_of_kept),
                referred_scores=None if referred is None else referred.cpu()[kept].numpy(),
            )
        )
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
    for size, tokens, (boxes, scores, _) in zip(
        sizes, likeliest, post_process_boxes(output, sizes), strict=True
    ):
        order = scores.argsort(descending=True, stable=True)
        kept = order[scores[order] > threshold]
        results.append({"scores": scores[kept], "labels": tokens[kept], "boxes": _clamped(boxes[kept], size)})
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
    scored = post_process_boxes(output, sizes)
    for text, size, (boxes, scores, referred) in zip(texts, sizes, scored, strict=True):
        ranking = scores if referred is None else referred
        best = int(ranking.argmax())
        kept = [best] if ranking[best] >= threshold else []
        results.append(_of_whole_text(text, size, boxes, scores, referred, kept))
    return results


def post_process_segmentation(
    output: MdetrOutput, texts: Sequence[str], places: Sequence[Placement], threshold: float = 0.7
) -> list[Detections]:
    """The things that each text as a whole refers to, best first, with their masks.

    Args:
        output: the model's, for B texts.
        texts: the texts.
        places: how each text's image lies in the batch.
        threshold: a query is kept if its score, 1 - p(no object), is above this.

    Raises:
        InvalidInputError: the model predicts no masks.
    """
    sizes = [place.given for place in places]
    scored = post_process_boxes(output, sizes)
    orders = [scores.cpu().argsort(descending=True, stable=True) for _, scores, _ in scored]
    kept = [
        order[scores.cpu()[order] > threshold] for order, (_, scores, _) in zip(orders, scored, strict=True)
    ]
    masks = post_process_masks(output, kept, places)
    return [
        _of_whole_text(text, size, *parts, queries.tolist(), found.numpy())
        for text, size, parts, queries, found in zip(texts, sizes, scored, kept, masks, strict=True)
    ]


def _of_whole_text(
    text: str,
    size: Size,
    boxes: Tensor,
    scores: Tensor,
    referred: Tensor | None,
    kept: list[int],
    masks: np.ndarray | None = None,
) -> Detections:
    """Some queries, all of whose words are the whole text."""
    return Detections(
        _clamped(boxes.cpu()[kept], size).numpy(),
        scores.cpu()[kept].numpy(),
        phrases=(text,) * len(kept),
        spans=(((0, len(text)),),) * len(kept),
        masks=masks,
        referred_scores=None if referred is None else referred.cpu()[kept].numpy(),
    )


def _clamped(boxes: Tensor, size: Size) -> Tensor:
    """Boxes (n, 4), cut at the border of an image of (height, width)."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


@torch.no_grad()
def post_process_masks(
    output: MdetrOutput, queries: Sequence[Tensor], places: Sequence[Placement]
) -> list[Tensor]:
    """The masks of some queries, in the pixels of each text's image as given.

    Args:
        output: the model's, for B texts.
        queries: per text, the n queries that are wanted, int64.
        places: how each text's image lies in the batch.

    Returns:
        Per text (n, H, W) bool.

    Source: arXiv 2104.12763, section 4.2.2 (PhraseCut).
    """
    if output.pred_masks is None:
        raise InvalidInputError("This model predicts no masks; take one that was trained for segmentation.")
    results: list[Tensor] = []
    for masks, wanted, place in zip(output.pred_masks.float(), queries, places, strict=True):
        height, width = place.resized
        if not len(wanted):
            results.append(torch.zeros(0, *place.given, dtype=torch.bool))
            continue
        padded = F.interpolate(masks[wanted][None], size=place.padded, mode="bilinear")
        whole = F.interpolate(padded[..., :height, :width], size=place.given, mode="bilinear")[0]
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
