"""A training step by part, with frozen norms folded into convolutions against without.

    python benchmarks/training_step.py [--backbone resnet101] [--height 512] [--width 640] [--turns 5]

The model has the paper's size and random weights; a step has two images with one text of sixteen tokens and
three boxes each. Both take turns, since a machine's speed changes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from statistics import median

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
) -> dict[str, float]:
    """Run one training step, and return the seconds of its parts."""
    times = [time.perf_counter()]

    def mark() -> None:
        times.append(time.perf_counter())

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
    """Let both take turns, and print the median seconds of each part and the ratios."""
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

    seconds: dict[bool, dict[str, list[float]]] = {False: defaultdict(list), True: defaultdict(list)}
    for turn in range(arguments.turns + 1):
        for folds in (False, True):
            model.backbone.folds_norms = folds
            times = step(model, optimizer, inputs, targets)
            if turn == 0:  # the first step also makes the layers and the optimizer's state
                continue
            for part, time_of_part in times.items():
                seconds[folds][part].append(time_of_part)
            seconds[folds]["all"].append(sum(times.values()))

    size = f"{arguments.backbone}, {IMAGES} x {arguments.height} x {arguments.width}"
    print(f"{size}, {torch.get_num_threads()} threads, medians of {arguments.turns} turns")
    print(f"{'part':10} {'plain s':>8} {'folded s':>9} {'ratio':>6}")
    for part in (*PARTS, "all"):
        plain, folded = (median(seconds[folds][part]) for folds in (False, True))
        print(f"{part:10} {plain:8.3f} {folded:9.3f} {plain / folded:6.2f}")


if __name__ == "__main__":
    main()
