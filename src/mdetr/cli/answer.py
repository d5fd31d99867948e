"""`mdetr answer`: images and a question in; the answer, the boxes it speaks of, pictures and JSON out."""

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
    from mdetr.inference.results import AnswerResult


def answer(
    images_and_text: ImagesAndText,
    model: ModelName = "clevr-tiny",
    also: Also = None,
    threshold: Threshold = 0.7,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
) -> None:
    """Answer a question about an image, and find the things that it speaks of.

    Example: mdetr answer picture.png "How many red cubes are there?" --output found.png
    """

    def show(console: Console, image: Path, result: AnswerResult) -> None:
        kind = f" ({result.answer_type})" if result.answer_type else ""
        console.print(f"{image.name}: {result.text}", soft_wrap=True)
        console.print(f"  {result.answer}{kind}, score {result.score:.2f}")
        if result.answer.startswith("#"):
            console.print(
                "  This model numbers its answers; convert it again with --answers to have them in words."
            )
        if result.groundings:
            print_groundings(console, None, result.groundings)

    run_question(
        "answer",
        images_and_text,
        also,
        model,
        output,
        json_file,
        show,
        threshold=threshold,
        batch_size=batch_size,
    )
