"""`mdetr answer`: answer a question about an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdetr.checkpoints.registry import Task
from mdetr.cli.inputs import read_query
from mdetr.cli.loading import load_model
from mdetr.cli.options import (
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
)
from mdetr.cli.prediction_run import PredictionRun
from mdetr.cli.printing import plain, print_groundings
from mdetr.wording import answer_type_in_words

if TYPE_CHECKING:
    from rich.console import Console

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
    """Answer a question about an image, and find the things that the question mentions.

    Example: mdetr answer picture.png "How many red cubes are there?" --output found.png
    """
    query = read_query(images_and_text, also, output, json_file)
    loaded = load_model(model, device, dtype, Task.ANSWERING)

    with PredictionRun(query) as run:
        for batch in run.batches(batch_size):
            results = loaded.answer_batch(batch.images, batch.texts, threshold, batch_size)
            for pair, result in zip(batch.pairs, results, strict=True):
                _print_result(run.console, pair.image_name, result)
                run.write(pair, result)


def _print_result(console: Console, image_name: str, result: AnswerResult) -> None:
    kind = f" ({answer_type_in_words(result.answer_type)})" if result.answer_type else ""
    console.print(plain(f"{image_name}: {result.text}"), soft_wrap=True)
    console.print(plain(f"  {result.answer}{kind}, score {result.score:.2f}"), soft_wrap=True)
    if result.answer.startswith("#"):
        console.print("  This model numbers its answers; download or convert it with --answers for words.")
    if result.groundings:
        print_groundings(console, None, result.groundings)
