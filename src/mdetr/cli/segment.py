"""`mdetr segment`: segment what a phrase refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdetr.checkpoints.registry import Task
from mdetr.cli.inputs import read_query
from mdetr.cli.loading import load_model
from mdetr.cli.options import (
    Also,
    BatchSize,
    Device,
    Dtype,
    ImagesAndText,
    JsonFile,
    Output,
    Precision,
    RequiredModelName,
    Threshold,
)
from mdetr.cli.prediction_run import PredictionRun
from mdetr.cli.printing import counted, format_box, plain

if TYPE_CHECKING:
    from rich.console import Console

    from mdetr.inference.results import SegmentationResult


def segment(
    images_and_text: ImagesAndText,
    model: RequiredModelName,
    also: Also = None,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 1,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Find the pixels of what a phrase refers to.

    Example: mdetr segment street.jpg "the wheels of the bus" --model models/phrasecut --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device, dtype, Task.SEGMENTATION)

    with PredictionRun(query) as run:
        for batch in run.batches(batch_size):
            results = loaded.segment_batch(batch.images, batch.texts, threshold, batch_size)
            for pair, result in zip(batch.pairs, results, strict=True):
                _print_result(run.console, pair.image_name, result)
                run.write(pair, result)


def _print_result(console: Console, image_name: str, result: SegmentationResult) -> None:
    covered = float(result.mask.mean())
    console.print(plain(f"{image_name}: {result.text}"), soft_wrap=True)
    console.print(f"  {counted(len(result.boxes), 'object')}, {covered:.1%} of the image")
    for box, score in zip(result.boxes, result.scores, strict=True):
        console.print(f"  box (x0 y0 x1 y1): {format_box(box)}, score {score:.2f}")
