"""`mdetr ground`: find what a text mentions in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Annotated

import typer

from mdetr.cli.common import (
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
    load_model,
    print_groundings,
    read_query,
)
from mdetr.cli.printing import plain
from mdetr.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from mdetr.inference.results import GroundingResult

EXAMPLE_IMAGE, EXAMPLE_TEXT = "assets/demo/cat.jpg", "a brown cat and a red car"


def ground(
    images_and_text: OptionalImagesAndText = None,
    example: Annotated[
        bool, typer.Option("--example", help="Try it on a photo that comes with the package.")
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
    """Find the things that a text mentions, and say which words each belongs to.

    Example: mdetr ground shapes.png "a red cube and two metal balls" --output found.png
    """
    arguments = images_and_text or []
    if example:
        if arguments:
            raise InvalidInputError("--example brings its own image and text; leave out yours.")
        arguments = [str(resources.files("mdetr") / EXAMPLE_IMAGE), EXAMPLE_TEXT]
    query = read_query(arguments, also, output, json_file)
    loaded = load_model(model, device, dtype)
    limit = loaded.processor.threshold_or_default(threshold)

    def show(console: Console, name: str, result: GroundingResult) -> None:
        if len(result):
            print_groundings(console, f"{name}: {result.text}", result)
        else:
            line = f"{name}: nothing found with a score above {limit}; try a lower --threshold."
            console.print(plain(line), soft_wrap=True)

    def predict(images: Tensor | Sequence[Tensor], texts: str | Sequence[str]) -> Iterator[GroundingResult]:
        return loaded.ground_batch(images, texts, limit, batch_size)

    query.run(predict, show, batch_size)
