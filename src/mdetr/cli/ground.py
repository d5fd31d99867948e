"""`mdetr ground`: find the things that a text mentions."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Annotated

import typer

from mdetr.cli.inputs import read_query
from mdetr.cli.loading import load_model
from mdetr.cli.options import (
    GROUNDING_MODEL,
    Also,
    BatchSize,
    Device,
    Dtype,
    JsonFile,
    ModelName,
    OptionalImagesAndText,
    Output,
    Precision,
    Threshold,
)
from mdetr.cli.prediction_run import PredictionRun
from mdetr.cli.printing import plain, print_groundings
from mdetr.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.console import Console

    from mdetr.inference.results import GroundingResult

EXAMPLE_IMAGE, EXAMPLE_TEXT = "assets/demo/cat.jpg", "a brown cat and a red car"


def ground(
    images_and_text: OptionalImagesAndText = None,
    example: Annotated[
        bool, typer.Option("--example", help="Use the example photo and text that come with the package.")
    ] = False,
    also: Also = None,
    model: ModelName = GROUNDING_MODEL,
    threshold: Threshold = None,
    output: Output = None,
    json_file: JsonFile = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Find the things that a text mentions, and the words that each of them belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """
    arguments = images_and_text or []
    if example:
        if arguments:
            raise InvalidInputError("--example uses its own image and text; leave out yours.")
        arguments = [str(resources.files("mdetr") / EXAMPLE_IMAGE), EXAMPLE_TEXT]
    query = read_query(arguments, also, output, json_file)
    loaded = load_model(model, device, dtype)
    threshold = loaded.processor.threshold_or_default(threshold)

    with PredictionRun(query) as run:
        for batch in run.batches(batch_size):
            results = loaded.ground_batch(batch.images, batch.texts, threshold, batch_size)
            for pair, result in zip(batch.pairs, results, strict=True):
                _print_result(run.console, pair.image_name, result, threshold)
                run.write(pair, result)


def _print_result(console: Console, image_name: str, result: GroundingResult, threshold: float) -> None:
    if len(result):
        print_groundings(console, f"{image_name}: {result.text}", result)
    else:
        line = f"{image_name}: nothing found with a score above {threshold}; try a lower --threshold."
        console.print(plain(line), soft_wrap=True)
