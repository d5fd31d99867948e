"""`mdetr ground`: images and a caption in; boxes with their words, pictures and JSON out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mdetr.cli.common import (
    Also,
    BatchSize,
    ImagesAndText,
    JsonFile,
    ModelName,
    Output,
    Threshold,
    print_groundings,
    run_question,
)

if TYPE_CHECKING:
    from mdetr.inference.results import GroundingResult


def ground(
    images_and_text: ImagesAndText,
    also: Also = None,
    model: ModelName = "clevr-tiny",
    threshold: Threshold = 0.7,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
) -> None:
    """Find the things that a text speaks of, and say which words each belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """

    def show(console: Console, image: Path, result: GroundingResult) -> None:
        if len(result):
            print_groundings(console, f"{image.name}: {result.text}", result)
        else:
            console.print(
                f"{image.name}: nothing found with a score above {threshold}; try a lower --threshold."
            )

    run_question(
        "ground",
        images_and_text,
        also,
        model,
        output,
        json_file,
        show,
        threshold=threshold,
        batch_size=batch_size,
    )
