"""`mdetr segment`: segment what a phrase refers to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mdetr.checkpoints.registry import Task
from mdetr.cli.common import (
    Also,
    BatchSize,
    Device,
    Dtype,
    ImagesAndText,
    JsonFile,
    NeededModel,
    Output,
    Precision,
    Threshold,
    format_box,
    load_model,
    read_query,
)
from mdetr.cli.printing import plain

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from mdetr.inference.results import SegmentationResult


def segment(
    images_and_text: ImagesAndText,
    model: NeededModel,
    also: Also = None,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 1,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Find the pixels that a phrase denotes.

    Example: mdetr segment street.jpg "the wheels of the bus" --model models/phrasecut --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device, dtype, Task.SEGMENTATION)

    def show(console: Console, name: str, result: SegmentationResult) -> None:
        share = float(result.mask.float().mean())
        console.print(plain(f"{name}: {result.text}"), soft_wrap=True)
        console.print(f"  {len(result.boxes)} found, {share:.1%} of the image")
        for box, score in zip(result.boxes, result.scores, strict=True):
            console.print(f"  box (x0 y0 x1 y1): {format_box(box)}, score {score:.2f}")

    def predict(
        images: Tensor | Sequence[Tensor], texts: str | Sequence[str]
    ) -> Iterator[SegmentationResult]:
        return loaded.segment_batch(images, texts, threshold, batch_size)

    query.run(predict, show, batch_size)
