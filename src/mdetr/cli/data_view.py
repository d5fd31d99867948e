"""`mdetr data view`: draw a contact sheet of some records of a store."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from mdetr.cli.printing import counted, printable
from mdetr.errors import InvalidInputError, InvalidRecordError

WIDTH = 480  # of a picture in the sheet, in pixels


def view(
    store: Annotated[Path, typer.Argument(help="Store made by mdetr data import.")],
    output: Annotated[Path, typer.Option(help="Picture to write.")],
    count: Annotated[int, typer.Option(min=1, help="Number of records.")] = 12,
    columns: Annotated[int, typer.Option(min=1, help="Number of columns.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice.")] = 0,
) -> None:
    """Draw a random sample of the records of a store, with their boxes and colored words.

    Example: mdetr data view stores/refcoco --output sheet.png
    """
    from mdetr.data.store import Store
    from mdetr.visualization.picture_files import check_picture_path, save_picture

    check_picture_path(output)
    opened = Store.open(store)
    if not len(opened):
        raise InvalidInputError(f"The store {store} is empty.")

    import numpy as np
    from torchvision.transforms.v2.functional import to_pil_image

    from mdetr.evaluation.example_scores import words_of
    from mdetr.processing.detections import Grounding
    from mdetr.visualization.plot import contact_sheet, draw_groundings

    # Draw the chosen records
    chosen = np.random.default_rng(seed).permutation(len(opened))[:count]
    pictures, left_out = [], []
    for row in sorted(chosen.tolist()):
        try:
            record = opened[row]
            image = to_pil_image(opened.load_image(record))
        except (InvalidInputError, InvalidRecordError) as error:
            left_out.append(str(error))
            continue
        drawn = [
            Grounding(words_of(record.text, spans), spans, box, math.nan)
            for box, spans in zip(record.boxes, record.spans, strict=True)
        ]
        pictures.append(draw_groundings(image, record.text, drawn))

    # Save the sheet, and list the records that cannot be drawn
    if not pictures:
        raise InvalidInputError(f"None of the chosen records can be drawn: {left_out[0]}")
    save_picture(contact_sheet(pictures, columns, WIDTH), output)
    typer.echo(f"{len(pictures)} of {len(opened):,} records are in {output}.")
    if left_out:
        typer.echo(f"mdetr: {counted(len(left_out), 'record')} could not be drawn:", err=True)
        for message in left_out:
            typer.echo(f"  {printable(message)}", err=True)
        raise typer.Exit(1)
