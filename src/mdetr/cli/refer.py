"""`mdetr refer`: find the one object that an expression refers to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mdetr.cli.common import (
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
    format_box,
    load_model,
    read_query,
)
from mdetr.cli.printing import plain

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

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
    """Find the one thing that an expression denotes.

    Example: mdetr refer shapes.png "the cube left of the metal ball" --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device, dtype)

    def show(console: Console, name: str, result: ReferringResult) -> None:
        console.print(plain(f"{name}: {result.text}"), soft_wrap=True)
        if result.box is None:
            line = f"  nothing found with a score of at least {threshold}; try a lower --threshold."
        else:
            line = f"  box (x0 y0 x1 y1): {format_box(result.box)}, score {result.score:.2f}"
        console.print(line, soft_wrap=True)

    def predict(images: Tensor | Sequence[Tensor], texts: str | Sequence[str]) -> Iterator[ReferringResult]:
        return loaded.refer_batch(images, texts, threshold, batch_size)

    query.run(predict, show, batch_size)
