"""`mdetr data import`: import the files of a data set into a store."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from mdetr.cli.printing import counted
from mdetr.cli.progress import progress_bar
from mdetr.data.sources.readers import SOURCES, reader_of
from mdetr.errors import InvalidInputError, InvalidRecordError

if TYPE_CHECKING:
    from mdetr.data.record import Record

_LISTED = 20


def import_data(
    source: Annotated[
        str, typer.Argument(help=f"Data set: {', '.join(SOURCES)}.", autocompletion=lambda: list(SOURCES))
    ],
    root: Annotated[Path, typer.Argument(help="Folder with the annotation files, or the file.")],
    store: Annotated[Path, typer.Argument(help="Store to create.")],
    split: Annotated[str, typer.Option(help="Split of the data set to read.")] = "train",
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the image paths are relative to; by default the folder of the annotations."
        ),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Skip and list invalid entries instead of stopping."),
    ] = False,
    embed_images: Annotated[
        bool,
        typer.Option(
            "--embed-images", help="Copy the images into the store, which then needs no other file."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store that already exists.")
    ] = False,
) -> None:
    """Import the annotation files of a data set into a store.

    Example: mdetr data import refcoco annotations stores/refcoco --split val --images train2014
    """
    if source not in SOURCES:
        raise InvalidInputError(f"Unknown data set {source!r}; choose one of: {', '.join(SOURCES)}.")
    skipped: list[str] = []

    def skip(error: InvalidRecordError) -> None:
        skipped.append(str(error))

    # Check the arguments
    on_bad = skip if skip_bad else None
    if not root.exists():
        raise InvalidInputError(f"There is no file or folder {root}; check the path.")
    image_root = images or (root.parent if root.is_file() else root)
    if not image_root.is_dir():
        raise InvalidInputError(f"There is no folder {image_root} with images.")

    from mdetr.data.embedding import embed_image_files
    from mdetr.data.sources.image_sizes import with_found_images
    from mdetr.data.store import write_store

    # Read records, with the options that the reader of this data set takes
    reader = reader_of(source)
    left_out: Counter[str] = Counter()
    options = {"images": image_root, "left_out": left_out}
    taken = options.keys() & inspect.signature(reader).parameters.keys()
    read = reader(root, split, on_bad, **{name: options[name] for name in taken})
    missing: dict[str, None] = {}
    misfits: dict[str, str] = {}
    records = with_found_images(_with_progress(read), image_root, missing, misfits)
    if embed_images:
        records = embed_image_files(records, image_root, on_bad)

    # Write the store
    try:
        written = write_store(
            store,
            _at_least_one(records, f"No usable record in {root}, so no store was written"),
            None if embed_images else image_root,
            overwrite=overwrite,
            on_bad=on_bad,
        )
    except InvalidInputError:  # no record is left: the list of skipped entries says why
        _report_left_out(skipped, left_out)
        raise

    # Report what was written, left out, missing and does not fit
    typer.echo(f"Wrote {counted(len(written), 'record')} to {written.path}.")
    _report_left_out(skipped, left_out)
    if missing and not embed_images:
        typer.echo(
            f"{counted(len(missing), 'image is', 'images are')} not in {image_root}, such as "
            f"{next(iter(missing))}; add the missing images before training, or import again with "
            "--images DIR.",
            err=True,
        )
    if misfits and not embed_images:
        name, problem = next(iter(misfits.items()))
        typer.echo(
            f"{counted(len(misfits), 'image differs', 'images differ')} in size from the annotations, such "
            f"as {name} ({problem}); use the images that the boxes were drawn on, not rotated by EXIF data. "
            "Training leaves out the images that do not fit.",
            err=True,
        )


def _at_least_one(records: Iterable[Record], message: str) -> Iterator[Record]:
    """Pass the records on, and raise an InvalidInputError at the end if there was none."""
    count = 0
    for record in records:
        count += 1
        yield record
    if not count:
        raise InvalidInputError(f"{message}; check the file and the split.")


def _with_progress(records: Iterator[Record]) -> Iterator[Record]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task("Importing", total=None)
        for count, record in enumerate(records, start=1):
            if count % 1000 == 0:
                progress.update(task, description=f"Importing: {count:,} records")
            yield record


def _report_left_out(skipped: list[str], left_out: Counter[str]) -> None:
    """Print the counts of what was left out on purpose, and list the invalid entries."""
    if left_out:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in left_out.items())
        typer.echo(f"Left out on purpose: {counts}.", err=True)
    if not skipped:
        return
    entries = counted(len(skipped), "invalid entry", "invalid entries")
    typer.echo(f"Skipped {entries}:", err=True)
    for message in skipped[:_LISTED]:
        typer.echo(f"  {message}", err=True)
    if len(skipped) > _LISTED:
        typer.echo(f"  ... and {len(skipped) - _LISTED:,} more.", err=True)
