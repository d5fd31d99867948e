"""Bipartite matching of queries and boxes, for all decoder layers at once.

The costs of all texts and decoder layers go to the CPU in one transfer, which synchronizes with the device
once; the assignment is solved there.
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

NEVER = 1e6  # cost of a forbidden pair, above any other cost


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
    """Cost of matching each query with each box of its text, for all texts and decoder layers.

    Args:
        logits: (D, B, Q, T) float32, of D decoder layers.
        pred_boxes: (D, B, Q, 4) float32, relative center x, center y, width, height.
        token_targets: (B, N, T) float32, the target distribution of each box; see `token_targets`.
        boxes: (B, N, 4) float32, relative center x, center y, width, height; zeros on padding.
        class_cost: Weight of the soft token term.
        bbox_cost: Weight of the L1 distance.
        giou_cost: Weight of the generalized IoU.

    Returns:
        (D, B, Q, N) float32 costs.

    Source: arXiv 2104.12763, section 2.2.2; the three terms are those of DETR, with soft tokens for classes.
    """
    # Soft tokens: probability mass on the phrase of each box
    probabilities = logits.softmax(-1)
    class_term = -torch.einsum("dbqt,bnt->dbqn", probabilities, token_targets)

    # Boxes: L1 distance and generalized IoU of all pairs
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
    """Match queries with boxes at the least total cost, separately for each text and layer.

    Args:
        costs: Tensors (D, B, Q, N); D and Q may differ between tensors. Pairs with the cost `NEVER` are not
            matched, even if a box is then without a match.
        box_mask: (B, N) bool, true where there is a box.
        copies: Per cost tensor, the number of queries to match with each box (1: one to one).

    Returns:
        The matches of each cost tensor, on the device of the costs. A text without boxes has none. If there
        are more boxes (times copies) than queries, the boxes with the highest costs stay without a match.

    Raises:
        TrainingError: A cost is not finite, because the predictions are not.
    """
    # Copy all costs and the mask to the CPU in one transfer
    tensors = [*costs, box_mask.float()]
    flat = _copy_to_cpu(torch.cat([tensor.flatten() for tensor in tensors])).numpy()
    *flat_costs, flat_mask = np.split(flat, np.cumsum([cost.numel() for cost in costs]))
    targets = [np.flatnonzero(row) for row in flat_mask.reshape(box_mask.shape)]  # per text, without padding

    # Solve each cost tensor
    matches: list[Matches] = []
    for cost, flat_cost, count in zip(costs, flat_costs, copies, strict=True):
        array = flat_cost.reshape(cost.shape)
        _check_finite(array, targets)
        repeated = [np.repeat(of_text, count) for of_text in targets]
        no_pairs = np.zeros((4, 0), dtype=np.int64)
        pairs = np.concatenate([no_pairs, *_solve(array, repeated)], axis=1)
        matches.append(Matches(*torch.from_numpy(pairs).to(cost.device).unbind()))
    return matches


def _solve(costs: np.ndarray, targets: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield (4, pairs), the layer, text, query and target of each pair, per layer and text with boxes."""
    for layer, text, cost in _cost_matrices(costs, targets):
        query, column = linear_sum_assignment(cost)

        # Drop forbidden pairs, which the solver uses when it has no others
        allowed = cost[query, column] < NEVER
        query, column = query[allowed], column[allowed]
        yield np.stack([np.full_like(query, layer), np.full_like(query, text), query, targets[text][column]])


def _cost_matrices(costs: np.ndarray, targets: Sequence[np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield layer, text and (Q, targets) costs of each layer and text with boxes."""
    for layer, of_layer in enumerate(costs):
        for text, of_text in enumerate(targets):
            if len(of_text):
                yield layer, text, of_layer[text][:, of_text]


def _check_finite(costs: np.ndarray, targets: Sequence[np.ndarray]) -> None:
    if np.isfinite(costs).all():
        return
    # Costs of padding do not matter; find the matrices that do
    bad: list[tuple[int, int]] = []
    for layer, text, cost in _cost_matrices(costs, targets):
        if not np.isfinite(cost).all():
            bad.append((layer, text))
    if bad:
        layer, text = bad[0]
        raise TrainingError(
            f"Expected finite predictions to match with boxes, got NaN or infinity in {len(bad)} of "
            f"{costs.shape[0] * costs.shape[1]} cost matrices (first: decoder layer {layer}, text {text} of "
            "the batch); lower the learning rate, or check that text's image and boxes for damaged values."
        )


def _copy_to_cpu(tensor: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    # Pinned memory makes the copy faster; wait for this stream only
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return pinned
