"""Options that several commands share, and the models that they use by default."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Precision(StrEnum):
    """Number types that a model can run in, by torch's names, and "auto" for the fastest of them."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def model_names() -> list[str]:
    """Names of models for the shell's completion, which adds the paths of folders itself."""
    from mdetr.checkpoints import registry

    return registry.model_names()


GROUNDING_MODEL = "photo-tiny"  # the bundled model for photos
ANSWERING_MODEL = "clevr-tiny"  # the bundled model that answers questions

ImagesAndText = Annotated[
    list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, followed by the text.")
]
OptionalImagesAndText = Annotated[
    list[str] | None, typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, followed by the text.")
]
Also = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="Another text for the same images; repeatable.")
]
ModelName = Annotated[
    str,
    typer.Option(help="A name from mdetr models, a folder or a Hub id.", autocompletion=model_names),
]
RequiredModelName = Annotated[
    str,
    typer.Option(
        "--model", help="A name from mdetr models, a folder or a Hub id.", autocompletion=model_names
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="Device to run on, such as cpu or cuda:1; by default a GPU if there is one."),
]
Dtype = Annotated[
    Precision,
    typer.Option(
        help="Number type of the model; the 16-bit types need half the memory. auto: bfloat16 if the device "
        "computes with it, otherwise float32."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Picture to write; a folder if there are several images or texts."),
]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="File for the results, one per line if it ends in .jsonl; - for standard output.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Leave out boxes with a lower score.",
        show_default="the model's own",
    ),
]
ReferringThreshold = Annotated[
    float,
    typer.Option("--threshold", min=0, max=1, help="Return no box if the best score is lower."),
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Number of image-text pairs that the model processes at once.")
]
