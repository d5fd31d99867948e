"""Bipartite matching of queries and boxes, for all decoder layers at once.

The costs of the whole batch and of every decoder layer are one tensor, so that the device is waited for once;
the assignment itself is solved on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert

from mdetr.errors import TrainingError
from mdetr.losses.boxes import generalized_iou
from mdetr.losses.matches import Matches

P = ParamSpec("P")
R = TypeVar("R")

NEVER = 1e6  # the cost of a pair that is never a match; more than any other can cost


@torch.no_grad()
def matching_cost(
    logits: Float32[Tensor, "layers batch queries positions"],
    pred_boxes: Float32[Tensor, "layers batch queries 4"],
    token_targets: Float32[Tensor, "batch boxes positions"],
    boxes: Float32[Tensor, "batch boxes 4"],
    *,
    class_cost: float = 1.0,
    bbox_cost: float = 5.0,
    giou_cost: float = 2.0,
) -> Float32[Tensor, "layers batch queries boxes"]:
    """Say how badly each query suits each box of its text, for all texts and decoder layers at once.

    Args:
        logits: (D, B, Q, T) float32, of D decoder layers.
        pred_boxes: (D, B, Q, 4) float32, relative center x, center y, width, height.
        token_targets: (B, N, T) float32, what the query of each box should say.
        boxes: (B, N, 4) float32, relative center x, center y, width, height; zeros on padding.
        class_cost: the weight of what the query should say.
        bbox_cost: the weight of the L1 distance.
        giou_cost: the weight of the generalized IoU.

    Returns:
        (D, B, Q, N) float32 costs.

    Source: arXiv 2104.12763, section 2.2.2; the three terms are those of DETR, with soft tokens for classes.
    """
    probabilities = logits.softmax(-1)
    class_term = -torch.einsum("dbqt,bnt->dbqn", probabilities, token_targets)
    l1_term = (pred_boxes[:, :, :, None] - boxes[None, :, None]).abs().sum(-1)
    pred_xyxy = box_convert(pred_boxes, "cxcywh", "xyxy")[:, :, :, None]  # (D, B, Q, 1, 4)
    true_xyxy = box_convert(boxes, "cxcywh", "xyxy")[None, :, None]  # (1, B, 1, N, 4)
    giou_term = -generalized_iou(pred_xyxy, true_xyxy)
    return class_cost * class_term + bbox_cost * l1_term + giou_cost * giou_term


def _outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """Keep `torch.compile` from tracing a function that works on the CPU with numpy."""
    return cast("Callable[P, R]", torch.compiler.disable(function))


@_outside_graphs
@torch.no_grad()
def assign(
    costs: Sequence[Float32[Tensor, "_ batch _ boxes"]],
    box_mask: Bool[Tensor, "batch boxes"],
    copies: Sequence[int],
) -> list[Matches]:
    """Pair queries with boxes at the least total cost, for each text and each layer by itself.

    Args:
        costs: tensors (D, B, Q, N); D and Q may differ from tensor to tensor. Pairs of the cost `NEVER` are
            no matches, even where a box then has none.
        box_mask: (B, N) bool, true where there is a box.
        copies: per cost tensor, how many queries each box is given to (1: one to one).

    Returns:
        The matches of each cost tensor, on the device of the costs. A text without boxes has none; where
        there are more boxes (times copies) than queries, every query has a box and the costliest boxes none.

    Raises:
        TrainingError: a cost is not a finite number, so the predictions are not.
    """
    flat = _copy_to_cpu(torch.cat([*(cost.flatten() for cost in costs), box_mask.flatten().float()])).numpy()
    *pieces, mask = np.split(flat, np.cumsum([cost.numel() for cost in costs]))
    columns = [np.flatnonzero(row) for row in mask.reshape(box_mask.shape)]
    found: list[Matches] = []
    for cost, piece, count in zip(costs, pieces, copies, strict=True):
        array = piece.reshape(cost.shape)
        _check_finite(array, columns)
        pairs = [np.zeros((4, 0), dtype=np.int64), *_solve(array, [np.repeat(c, count) for c in columns])]
        indices = torch.from_numpy(np.concatenate(pairs, axis=1)).to(cost.device)
        found.append(Matches(*indices.unbind()))
    return found


def _solve(costs: np.ndarray, columns: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield, for each layer and text with boxes, (4, pairs) of layer, text, query and target."""
    for layer, texts in enumerate(costs):
        for text, targets in enumerate(columns):
            if len(targets):
                queries, chosen = linear_sum_assignment(texts[text][:, targets])
                allowed = texts[text][queries, targets[chosen]] < NEVER
                queries, chosen = queries[allowed], chosen[allowed]
                yield np.stack(
                    [np.full_like(queries, layer), np.full_like(queries, text), queries, targets[chosen]]
                )


def _check_finite(costs: np.ndarray, columns: Sequence[np.ndarray]) -> None:
    if np.isfinite(costs).all():
        return
    bad = [
        (layer, text)
        for layer, texts in enumerate(costs)
        for text, targets in enumerate(columns)
        if not np.isfinite(texts[text][:, targets]).all()
    ]
    if bad:
        layer, text = bad[0]
        raise TrainingError(
            f"Expected finite predictions to match with boxes, found NaN or infinity in {len(bad)} of "
            f"{costs.shape[0] * costs.shape[1]} cost matrices (first: decoder layer {layer}, text {text} of "
            "the batch): lower the learning rate, or look for damaged values in that text's image and boxes."
        )


def _copy_to_cpu(tensor: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return pinned
