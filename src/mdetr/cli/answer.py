"""`mdetr answer`: answer a question about images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mdetr.checkpoints.registry import Task
from mdetr.cli.common import (
    ANSWERING_MODEL,
    Also,
    BatchSize,
    Device,
    Dtype,
    ImagesAndText,
    JsonFile,
    ModelName,
    Output,
    Precision,
    Threshold,
    load_model,
    print_groundings,
    read_query,
)
from mdetr.cli.printing import plain
from mdetr.wording import answer_type_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from mdetr.inference.results import AnswerResult


def answer(
    images_and_text: ImagesAndText,
    model: ModelName = ANSWERING_MODEL,
    also: Also = None,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Answer a question about an image, and find the things that it refers to.

    Example: mdetr answer picture.png "How many red cubes are there?" --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device, dtype, Task.ANSWERING)

    def show(console: Console, name: str, result: AnswerResult) -> None:
        kind = f" ({answer_type_in_words(result.answer_type)})" if result.answer_type else ""
        console.print(plain(f"{name}: {result.text}"), soft_wrap=True)
        console.print(plain(f"  {result.answer}{kind}, score {result.score:.2f}"), soft_wrap=True)
        if result.answer.startswith("#"):
            console.print(
                "  This model numbers its answers; download or convert it with --answers for words."
            )
        if result.groundings:
            print_groundings(console, None, result.groundings)

    def predict(images: Tensor | Sequence[Tensor], texts: str | Sequence[str]) -> Iterator[AnswerResult]:
        return loaded.answer_batch(images, texts, threshold, batch_size)

    query.run(predict, show, batch_size)
