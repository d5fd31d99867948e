"""Many class names, one image: encoding the image once against a full forward pass for every name.

    python benchmarks/detection.py --names 1203 --height 480 --width 640

The model is that of `--model`, such as an exported one; by default it has the published layout (ResNet-101,
RoBERTa-base) and random weights. The peer runs the whole model for each name by itself, as a loop over
prompts would; `--peer-names` of them are timed and scaled.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from mdetr import Mdetr, MdetrConfig, MdetrForObjectDetection, MdetrProcessor
from mdetr.inference.detection import class_prompt
from mdetr.processing.processor import MdetrImageProcessor, roberta_tokenizer


def main() -> None:
    """Print seconds for an image and the ratio."""
    arguments = _arguments()
    asked = Mdetr.from_pretrained(arguments.model, "cpu") if arguments.model else _random_model(arguments)
    picture = np.random.default_rng(0).integers(
        0, 255, (arguments.height, arguments.width, 3), dtype=np.uint8
    )
    names = [f"{word}_{number}" for number, word in zip(range(arguments.names), _words(), strict=False)]

    start = time.perf_counter()
    asked.detect(picture, names, threshold=1.0, batch_size=arguments.batch_size)
    once = time.perf_counter() - start

    start = time.perf_counter()
    for name in names[: arguments.peer_names]:
        asked.ground(picture, class_prompt(name), threshold=1.0)
    every = (time.perf_counter() - start) * len(names) / arguments.peer_names
    size = f"{arguments.height} x {arguments.width} pixels"
    print(f"{len(names)} names, {size}, {torch.get_num_threads()} threads")
    print(f"image encoded once:  {once:8.1f} s")
    print(f"a forward for each:  {every:8.1f} s (scaled from {arguments.peer_names} names)")
    print(f"ratio:               {every / once:8.2f}")


def _random_model(arguments: argparse.Namespace) -> Mdetr:
    """Make a model of the published size with random weights."""
    torch.manual_seed(0)
    model = MdetrForObjectDetection(MdetrConfig(alignment_size=64)).eval()
    images = MdetrImageProcessor(size={"shortest_edge": arguments.height, "longest_edge": arguments.width})
    return Mdetr(model, MdetrProcessor(images, roberta_tokenizer()))


def _words() -> list[str]:
    return ["aerosol_can", "air_conditioner", "bus", "street_sign", "teddy_bear", "wine"] * 1000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a name from mdetr models, a folder or a Hub id")
    parser.add_argument("--names", type=int, default=1203)
    parser.add_argument("--peer-names", type=int, default=40)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    main()
