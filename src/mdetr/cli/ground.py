"""`mdetr ground`: images and a caption in; boxes with their words, pictures and JSON out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mdetr.cli.common import (
    GROUNDING_MODEL,
    Also,
    BatchSize,
    Device,
    ImagesAndText,
    JsonFile,
    ModelName,
    Output,
    Threshold,
    load_model,
    print_groundings,
    read_query,
)
from mdetr.cli.printing import plain

if TYPE_CHECKING:
    from rich.console import Console

    from mdetr.inference.results import GroundingResult


def ground(
    images_and_text: ImagesAndText,
    also: Also = None,
    model: ModelName = GROUNDING_MODEL,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
    device: Device = None,
) -> None:
    """Find the things that a text speaks of, and say which words each belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device)
    limit = loaded.processor.threshold_or_default(threshold)

    def show(console: Console, name: str, result: GroundingResult) -> None:
        if len(result):
            print_groundings(console, f"{name}: {result.text}", result)
        else:
            line = f"{name}: nothing found with a score above {limit}; try a lower --threshold."
            console.print(plain(line), soft_wrap=True)

    query.run(partial(loaded.ground, threshold=limit, batch_size=batch_size), show, batch_size)
