"""`mdetr data combine`: combine the captions of each image of several stores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mdetr.cli.progress import progress_bar
from mdetr.data.limits import MAX_LENGTH
from mdetr.errors import InvalidInputError


def combine(
    stores: Annotated[list[Path], typer.Argument(help="The stores whose captions are combined.")],
    output: Annotated[Path, typer.Option(help="The store to make.")],
    exclude: Annotated[
        list[Path] | None,
        typer.Option(help="A store of a validation or test set: its images are left out. May be repeated."),
    ] = None,
    exclude_coco: Annotated[
        list[Path] | None,
        typer.Option(help="A COCO-format file whose images are left out: instances_val2014.json."),
    ] = None,
    visual_genome: Annotated[
        Path | None,
        typer.Option(help="Visual Genome's image_data.json: which of its images are COCO's or Flickr's."),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            help="COCO's instances_train2014.json: Visual Genome's images that are in it move there."
        ),
    ] = None,
    coco_images: Annotated[
        Path | None, typer.Option(help="The folder of COCO's images; needed with --coco.")
    ] = None,
    max_length: Annotated[
        int, typer.Option(min=1, help="The most characters of a combined caption.")
    ] = MAX_LENGTH,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Count characters as the published data were made: a few are longer."),
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="How many work side by side.")] = os.cpu_count() or 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store that already exists.")
    ] = False,
) -> None:
    """Put the captions of each image together, as the pre-training data of the paper were made.

    A run that was stopped resumes when it is started again.

    Example: mdetr data combine stores/refcoco stores/gqa --output stores/combined --exclude stores/gqa-val
    """
    if (coco is None) != (coco_images is None):
        raise InvalidInputError("--coco and --coco-images go together: a list of images, and their folder.")
    if coco_images is not None and not coco_images.is_dir():
        raise InvalidInputError(f"There is no folder {coco_images} with images.")

    from mdetr.data.combine_stores import CombineOptions, combine_stores, excluded_images
    from mdetr.data.shared_images import ImageIndex, read_aliases, read_coco_images
    from mdetr.data.store import Store

    index = ImageIndex(
        {} if visual_genome is None else read_aliases(visual_genome),
        {} if coco is None else read_coco_images(coco),
        coco_images,
    )
    excluded = excluded_images((Store.open(path) for path in exclude or ()), index)
    for file in exclude_coco or ():
        excluded |= {f"coco:{number}" for number in read_coco_images(file)}
    options = CombineOptions(max_length, exact, frozenset(excluded), index)
    opened = [Store.open(path) for path in stores]
    with progress_bar() as progress:
        task = progress.add_task("Combining", total=None)
        made = combine_stores(
            opened,
            output,
            options,
            processes=processes,
            overwrite=overwrite,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"Wrote {len(made):,} records of {sum(map(len, opened)):,} to {made.path}.")
