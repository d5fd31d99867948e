"""`mdetr refer`: find the one object that an expression refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdetr.cli.inputs import read_query
from mdetr.cli.loading import load_model
from mdetr.cli.options import (
    GROUNDING_MODEL,
    Also,
    BatchSize,
    Device,
    Dtype,
    ImagesAndText,
    JsonFile,
    ModelName,
    Output,
    Precision,
    ReferringThreshold,
)
from mdetr.cli.prediction_run import PredictionRun
from mdetr.cli.printing import format_box, plain

if TYPE_CHECKING:
    from rich.console import Console

    from mdetr.inference.results import ReferringResult


def refer(
    images_and_text: ImagesAndText,
    also: Also = None,
    model: ModelName = GROUNDING_MODEL,
    threshold: ReferringThreshold = 0,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Find the one object that an expression refers to.

    Example: mdetr refer shapes.png "the cube left of the metal ball" --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device, dtype)

    with PredictionRun(query) as run:
        for batch in run.batches(batch_size):
            results = loaded.refer_batch(batch.images, batch.texts, threshold, batch_size)
            for pair, result in zip(batch.pairs, results, strict=True):
                _print_result(run.console, pair.image_name, result, threshold)
                run.write(pair, result)


def _print_result(console: Console, image_name: str, result: ReferringResult, threshold: float) -> None:
    console.print(plain(f"{image_name}: {result.text}"), soft_wrap=True)
    if result.box is None:
        line = f"  nothing found with a score of at least {threshold}; try a lower --threshold."
    else:
        line = f"  box (x0 y0 x1 y1): {format_box(result.box)}, score {result.score:.2f}"
    console.print(line, soft_wrap=True)
