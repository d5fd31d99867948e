"""The model's output in; boxes, masks and words in pixels and characters out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou
from transformers import BatchEncoding

from mdetr.errors import InvalidInputError
from mdetr.images import Placement, Size
from mdetr.model.interface import MdetrOutput
from mdetr.words import Words

Box = tuple[float, float, float, float]
Span = tuple[int, int]
Spans = tuple[Span, ...]

GAP = " ... "


@dataclass(frozen=True)
class Grounding:
    """A thing that was found: its words and its place.

    phrase: the words, with " ... " where words between them do not belong. spans: their characters.
    box: x0, y0, x1, y1 in pixels of the image. score: 1 - p(no object).
    """

    phrase: str
    spans: Spans
    box: Box
    score: float


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
    encoding: BatchEncoding,
    texts: Sequence[str],
    sizes: Sequence[Size],
    threshold: float = 0.7,
    token_threshold: float = 0.1,
    max_overlap: float = 0.7,
) -> list[list[Grounding]]:
    """What the model found, per text, best first.

    Args:
        output: the model's, for B texts.
        encoding: of the B texts. texts: these themselves.
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
    results: list[list[Grounding]] = []
    for row, (text, (boxes, scores, _)) in enumerate(
        zip(texts, post_process_boxes(output, sizes), strict=True)
    ):
        boxes, scores = boxes.cpu(), scores.cpu()
        height, width = sizes[row]
        boxes = torch.stack((boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)), -1).flatten(1)
        found: list[Grounding] = []
        places: dict[Spans, Tensor] = {}  # the boxes of each phrase so far
        for query in scores.argsort(descending=True, stable=True).tolist():
            if not scores[query] > threshold:
                break
            chances = probabilities[row, query, :-1]
            least = token_threshold if chances.max() > token_threshold else float(chances.max()) / 2
            tokens = (chances > least).nonzero()[:, 0].tolist()
            spans = _spans_of_tokens(encoding, row, tokens, text)
            place, others = boxes[query][None], places.get(spans, boxes[:0])
            if (box_iou(place, others) > max_overlap).any():
                continue
            places[spans] = torch.cat((others, place))
            x0, y0, x1, y1 = boxes[query].tolist()
            phrase = GAP.join(text[start:end] for start, end in spans)
            found.append(Grounding(phrase, spans, (x0, y0, x1, y1), float(scores[query])))
        results.append(found)
    return results


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


def _spans_of_tokens(encoding: BatchEncoding, row: int, tokens: Sequence[int], text: str) -> Spans:
    """The whole words that some tokens of text `row` belong to, as maximal spans of characters."""
    offsets, special = encoding[row].offsets, encoding[row].special_tokens_mask
    words = Words(text)
    spans: list[Span] = []
    for token in tokens:
        if token >= len(offsets) or special[token]:
            continue
        start, end = offsets[token]
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
