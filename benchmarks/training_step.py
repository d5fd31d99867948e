"""A training step by part: as a plain loop does it, with frozen norms folded, and in bfloat16.

    python benchmarks/training_step.py [--backbone resnet101] [--height 512] [--width 640] [--turns 5]

The model has the paper's size and random weights; a step has two images with one text of sixteen tokens and
three boxes each. The ways take turns, since a machine's speed changes. bfloat16, with folded norms, is for
processors that have it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from mdetr.losses import compute_loss
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import Targets
from mdetr.modeling import MdetrForObjectDetection
from mdetr.training.optimization import parameter_groups
from mdetr.training.recipe_file import load_recipe

IMAGES, TOKENS, BOXES = 2, 16, 3
PARTS = ("image", "text", "fusion", "loss", "backward", "optimizer")


class Way(NamedTuple):
    """How a step is run."""

    folds_norms: bool
    bfloat16: bool


WAYS = {"plain": Way(False, False), "folded": Way(True, False), "bfloat16": Way(True, True)}


def make_inputs(height: int, width: int, positions: int) -> tuple[dict[str, Tensor], Targets]:
    """Random images, texts and targets."""
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "pixel_values": torch.randn(IMAGES, 3, height, width, generator=generator),
        "input_ids": torch.randint(5, 50_000, (IMAGES, TOKENS), generator=generator),
    }
    tokens = torch.zeros(IMAGES, BOXES, positions, dtype=torch.bool)
    tokens[..., 2:4] = True
    targets = Targets(
        boxes=torch.rand(IMAGES, BOXES, 4, generator=generator) * 0.4 + 0.2,
        box_mask=torch.ones(IMAGES, BOXES, dtype=torch.bool),
        positive_map=tokens,
        alignment_map=tokens[..., :TOKENS],
    )
    return inputs, targets


def step(
    model: MdetrForObjectDetection,
    optimizer: torch.optim.Optimizer,
    inputs: dict[str, Tensor],
    targets: Targets,
    way: Way,
) -> dict[str, float]:
    """Run one training step, and return the seconds of its parts."""
    model.backbone.folds_norms = way.folds_norms
    times = [time.perf_counter()]

    def mark() -> None:
        times.append(time.perf_counter())

    with torch.autocast("cpu", torch.bfloat16, enabled=way.bfloat16):
        images = model.encode_image(inputs["pixel_values"])
        mark()
        texts = model.encode_text(inputs["input_ids"])
        mark()
        output = model.fuse(images, texts, targets)
        mark()
        loss, _ = compute_loss(output, targets, model.config)
        mark()
    loss.backward()
    mark()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()
    mark()
    return {part: end - start for part, start, end in zip(PARTS, times, times[1:], strict=False)}


def main() -> None:
    """Let the ways take turns, and print the median seconds of each part and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = MdetrForObjectDetection(MdetrConfig(backbone=arguments.backbone)).train()
    torch.nn.Module.to(model, memory_format=torch.channels_last)  # as the trainer has it
    optimizer = torch.optim.AdamW(parameter_groups(model, load_recipe("finetune").optimizer), fused=True)
    inputs, targets = make_inputs(arguments.height, arguments.width, model.config.num_token_positions)

    ways = dict(WAYS)
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        del ways["bfloat16"]
    seconds: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in ways}
    for turn in range(arguments.turns + 1):
        for name, way in ways.items():
            times = step(model, optimizer, inputs, targets, way)
            if turn == 0:  # the first step also makes the layers and the optimizer's state
                continue
            for part, time_of_part in times.items():
                seconds[name][part].append(time_of_part)
            seconds[name]["all"].append(sum(times.values()))

    size = f"{arguments.backbone}, {IMAGES} x {arguments.height} x {arguments.width}"
    print(f"{size}, {torch.get_num_threads()} threads, medians of {arguments.turns} turns, ratios to plain")
    print(f"{'part':10}" + "".join(f"{name:>17}" for name in ways))
    for part in (*PARTS, "all"):
        plain, *_ = medians = [median(seconds[name][part]) for name in ways]
        print(f"{part:10}" + "".join(f"{value:8.3f} s ({plain / value:4.2f})" for value in medians))


if __name__ == "__main__":
    main()
