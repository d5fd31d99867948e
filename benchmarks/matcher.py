"""How much faster the batched matcher is than one text and one decoder layer at a time.

    python benchmarks/matcher.py [--device cuda] [--layers 6] [--batch 32] [--queries 100] [--boxes 8]

Prints the time of both, their ratio, and whether both find the same pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from mdetr.losses.matcher import assign, matching_cost

Pairs = list[tuple[int, int, int, int]]


def one_at_a_time(
    logits: Tensor, pred_boxes: Tensor, tokens: Tensor, boxes: Tensor, box_mask: Tensor
) -> Pairs:
    """Match each text in each layer by itself, as (layer, text, query, target)."""
    pairs: Pairs = []
    for layer, (layer_logits, layer_boxes) in enumerate(zip(logits, pred_boxes, strict=True)):
        for text, mask in enumerate(box_mask):
            probabilities = layer_logits[text].softmax(-1)
            true = boxes[text][mask]
            cost = (
                -probabilities @ tokens[text][mask].T
                + 5 * torch.cdist(layer_boxes[text], true, p=1)
                - 2
                * generalized_box_iou(
                    box_convert(layer_boxes[text], "cxcywh", "xyxy"), box_convert(true, "cxcywh", "xyxy")
                )
            )
            queries, targets = linear_sum_assignment(cost.cpu().numpy())
            pairs += [(layer, text, int(q), int(t)) for q, t in zip(queries, targets, strict=True)]
    return pairs


def batched(logits: Tensor, pred_boxes: Tensor, tokens: Tensor, boxes: Tensor, box_mask: Tensor) -> Pairs:
    """Match all texts in all layers at once."""
    (matches,) = assign([matching_cost(logits, pred_boxes, tokens, boxes)], box_mask, [1])
    fields = (matches.layer, matches.text, matches.query, matches.target)
    return list(zip(*(field.tolist() for field in fields), strict=True))


def seconds(function: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def main() -> None:
    """Read the sizes, make up a batch, time both ways."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    for name, default in (("layers", 6), ("batch", 32), ("queries", 100), ("boxes", 8), ("repeats", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = parser.parse_args()
    torch.manual_seed(0)
    box_mask = torch.arange(sizes.boxes) < torch.randint(1, sizes.boxes + 1, (sizes.batch, 1))
    inputs = [
        torch.randn(sizes.layers, sizes.batch, sizes.queries, 256),
        torch.rand(sizes.layers, sizes.batch, sizes.queries, 4) * 0.4 + 0.1,
        (torch.rand(sizes.batch, sizes.boxes, 256) < 0.02).float(),
        torch.rand(sizes.batch, sizes.boxes, 4) * 0.4 + 0.1,
        box_mask,
    ]
    inputs = [tensor.to(sizes.device) for tensor in inputs]
    loop = seconds(lambda: one_at_a_time(*inputs), sizes.repeats)
    ours = seconds(lambda: batched(*inputs), sizes.repeats)
    agree = sorted(one_at_a_time(*inputs)) == sorted(batched(*inputs))
    print(f"one at a time {loop * 1e3:.1f} ms, batched {ours * 1e3:.1f} ms: {loop / ours:.1f} times faster")
    print(f"same pairs: {'yes' if agree else 'no'}")


if __name__ == "__main__":
    main()
