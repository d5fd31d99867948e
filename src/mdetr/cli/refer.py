"""`mdetr refer`: images and an expression in; the one box that it denotes, pictures and JSON out."""

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
    format_box,
    run_question,
)

if TYPE_CHECKING:
    from mdetr.inference.results import ReferringResult


def refer(
    images_and_text: ImagesAndText,
    also: Also = None,
    model: ModelName = "clevr-tiny",
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
) -> None:
    """Find the one thing that an expression denotes.

    Example: mdetr refer shapes.png "the cube left of the metal ball" --output found.png
    """

    def show(console: Console, image: Path, result: ReferringResult) -> None:
        box = format_box(result.box)
        console.print(f"{image.name}: {result.text}", soft_wrap=True)
        console.print(f"  box (x0 y0 x1 y1): {box}, score {result.score:.2f}")

    run_question(
        "refer",
        images_and_text,
        also,
        model,
        output,
        json_file,
        show,
        batch_size=batch_size,
    )
