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
    stores: Annotated[list[Path], typer.Argument(help="Stores whose captions are combined.")],
    output: Annotated[Path, typer.Option(help="Store to create.")],
    exclude: Annotated[
        list[Path] | None,
        typer.Option(help="Store of a validation or test set, whose images are left out; repeatable."),
    ] = None,
    exclude_coco: Annotated[
        list[Path] | None,
        typer.Option(
            help="File in COCO format, such as instances_val2014.json, whose images are left out; repeatable."
        ),
    ] = None,
    visual_genome: Annotated[
        Path | None,
        typer.Option(
            help="image_data.json of Visual Genome, which lists its images that are from COCO or Flickr."
        ),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            help="instances_train2014.json of COCO; Visual Genome's images listed there are taken from COCO."
        ),
    ] = None,
    coco_images: Annotated[
        Path | None, typer.Option(help="Folder of COCO's images; required with --coco.")
    ] = None,
    max_length: Annotated[
        int, typer.Option(min=1, help="Maximum number of characters of a combined caption.")
    ] = MAX_LENGTH,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Count characters as in the released data, where a few captions are longer."
        ),
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Number of processes.")] = os.cpu_count() or 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store that already exists.")
    ] = False,
) -> None:
    """Combine the captions of each image, as in the paper's pre-training data.

    An interrupted run resumes when it is started again.

    Example: mdetr data combine stores/refcoco stores/gqa --output stores/combined --exclude stores/gqa-val
    """
    if (coco is None) != (coco_images is None):
        raise InvalidInputError(
            "--coco and --coco-images go together; give both the list of images and their folder."
        )
    if coco_images is not None and not coco_images.is_dir():
        raise InvalidInputError(f"There is no folder {coco_images} with images.")

    from mdetr.data.combine_stores import CombineOptions, combine_stores, excluded_images
    from mdetr.data.shared_images import ImageIndex, read_aliases, read_coco_images
    from mdetr.data.store import Store

    # Find the images to leave out
    index = ImageIndex(
        {} if visual_genome is None else read_aliases(visual_genome),
        {} if coco is None else read_coco_images(coco),
        coco_images,
    )
    excluded = excluded_images((Store.open(path) for path in exclude or ()), index)
    for file in exclude_coco or ():
        excluded |= {f"coco:{number}" for number in read_coco_images(file)}

    # Combine the rest
    options = CombineOptions(max_length, exact, frozenset(excluded), index)
    opened = [Store.open(path) for path in stores]
    with progress_bar() as progress:
        task = progress.add_task("Combining", total=None)
        combined = combine_stores(
            opened,
            output,
            options,
            processes=processes,
            overwrite=overwrite,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"Wrote {len(combined):,} records of {sum(map(len, opened)):,} to {combined.path}.")
