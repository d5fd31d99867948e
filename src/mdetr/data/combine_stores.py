"""Combination of the captions of each image of several stores.

Rows are first distributed to parts by a hash of their image, to fit all texts of the images of a part into
memory; then the parts are combined in parallel. Finished files stay until the store is complete, which lets
an interrupted run resume.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from mdetr.data.combine import combine_records
from mdetr.data.limits import MAX_LENGTH
from mdetr.data.record import SCHEMA, Record, from_row
from mdetr.data.shared_images import ImageIndex
from mdetr.data.store import Store, publish_store, write_shard
from mdetr.data.store_files import check_nulls
from mdetr.errors import InvalidInputError
from mdetr.files import full_disk
from mdetr.processes import end_with_parent, locked

PARTS = 64
_PUBLISHING = "publishing"  # file of a run that has no earlier store to replace and only moves its files
_BATCH = 16_384  # rows that are distributed at once
_IDENTITY = ("source", "image_id", "image")

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and the total."""


@dataclass(frozen=True)
class CombineOptions:
    """Options that determine the result of a combination.

    Attributes:
        max_length: Maximum number of characters of a combined caption.
        exact: Whether to count lengths as for the released data; see `combine_records`.
        excluded: Names of images (`ImageIndex.names_of`) whose texts are left out.
        index: Images that several data sets share.
    """

    max_length: int = MAX_LENGTH
    exact: bool = False
    excluded: frozenset[str] = frozenset()
    index: ImageIndex = field(default_factory=ImageIndex)


def combine_stores(
    stores: Sequence[Store],
    output: str | os.PathLike[str],
    options: CombineOptions,
    *,
    processes: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Combine the captions of each image of several stores.

    Image names of the result are relative to the common parent of the image folders of all stores. Finished
    parts stay in `.NAME-combining` next to the output until the output is complete, and the next run with
    the same stores and options reuses them.

    Args:
        stores: Stores of image files, without embedded images.
        output: Folder of the new store.
        options: Options that determine the result.
        processes: Number of processes; it does not change the result.
        overwrite: Whether to replace a store that already exists at `output`.
        progress: Called after each step.

    Returns:
        The new store.

    Raises:
        InvalidInputError: `output` already exists, or a store embeds its images.
        InvalidRecordError: A store has a row that breaks a rule.

    Source: arXiv 2104.12763, appendix B ("data combination").
    """
    folder = Path(output)
    root = _common_root(stores, options.index)
    work = folder.parent / f".{folder.name}-combining"
    description = _description(stores, options)
    with _used_alone(work, folder):
        if folder.exists() and not overwrite:
            marker = work / _PUBLISHING
            if not marker.is_file() or marker.read_text(encoding="utf-8") != description:
                raise InvalidInputError(f"{folder} already exists; remove it or choose another path.")
            combined = Store.open(folder)  # of a run that was killed when only its files were left to remove
        else:
            _begin(work, description)
            _fill(work, stores, root, options, processes, progress)

            # Publish the parts as one store
            shards = [_shard(work, part) for part in range(PARTS)]
            if not folder.exists():
                (work / _PUBLISHING).write_text(description, encoding="utf-8")
            combined = publish_store(folder, shards, root, overwrite=overwrite)
        _remove(work)
        return combined


def _remove(work: Path) -> None:
    """Remove the files of a run whose store is complete; what says so goes last."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _PUBLISHING:
            path.unlink()
    shutil.rmtree(work)


@contextmanager
def _used_alone(work: Path, output: Path) -> Iterator[None]:
    """Keep other processes from combining to the same store, and explain a full disk."""
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = work.with_name(f"{work.name}.lock")
    with locked(lock) as is_alone:
        if not is_alone:
            raise InvalidInputError(
                f"Another process combines stores to {output}; wait until it ends, or choose another path."
            )
        try:
            yield
        except OSError as error:
            reason = full_disk(error)
            if reason is None:
                raise
            raise InvalidInputError(
                f"The store {output} could not be written ({reason}); free some space, and repeat the "
                "command to continue."
            ) from None
        finally:
            lock.unlink(missing_ok=True)


def _fill(
    work: Path,
    stores: Sequence[Store],
    root: Path,
    options: CombineOptions,
    processes: int,
    progress: Progress | None,
) -> None:
    """Write the combined records of all parts to the folder `work`."""
    # List the tasks: distribute the rows of each file, then combine each part
    distribute_tasks: list[tuple[Any, ...]] = []
    names: list[str] = []
    for number, store in enumerate(stores):
        for shard in range(store.num_shards):
            name = f"dealt-{number:03d}-{shard:05d}"
            names.append(name)
            distribute_tasks.append((store, shard, work / name, root, options))
    combine_tasks = [(part, names, work, options.max_length, options.exact) for part in range(PARTS)]

    # Run them
    total, done = len(distribute_tasks) + len(combine_tasks), 0
    for step, tasks in ((_distribute, distribute_tasks), (_combine_part, combine_tasks)):
        for _ in _run(step, tasks, processes):
            done += 1
            if progress:
                progress(done, total)


def _run(step: Callable[..., None], tasks: Sequence[tuple[Any, ...]], processes: int) -> Iterator[None]:
    """Run a step for all tasks, and yield after each."""
    if processes == 1:  # avoid the seconds that a process takes to start
        for task in tasks:
            step(*task)
            yield
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        futures = [pool.submit(step, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def excluded_images(stores: Iterable[Store], index: ImageIndex) -> frozenset[str]:
    """Collect the names of all images of stores, to exclude them from training."""
    names: set[str] = set()
    for store in stores:
        seen: set[tuple[str, str]] = set()
        for batch in store.columns(["source", "image_id"]).to_batches():
            seen.update(zip(batch["source"].to_pylist(), batch["image_id"].to_pylist(), strict=True))
        for source, image_id in seen:
            names.update(index.names_of(source, image_id))
    return frozenset(names)


def _common_root(stores: Sequence[Store], index: ImageIndex) -> Path:
    roots = []
    for store in stores:
        if store.image_root is None:
            raise InvalidInputError(
                f"The store {store.path} embeds its images; combine stores of image files."
            )
        roots.append(store.image_root.resolve())
    if index.coco_folder is not None:
        roots.append(index.coco_folder.resolve())
    return Path(os.path.commonpath(roots))


def _description(stores: Sequence[Store], options: CombineOptions) -> str:
    return json.dumps(
        {
            "stores": [[str(store.path.resolve()), len(store), store.changed] for store in stores],
            "max_length": options.max_length,
            "exact": options.exact,
            "excluded": zlib.crc32("\n".join(sorted(options.excluded)).encode()),
            "index": options.index.fingerprint(),
            "parts": PARTS,
        }
    )


def _begin(work: Path, description: str) -> None:
    """Keep the files of an earlier run with the same description, and remove those of any other run."""
    marker = work / "work.json"
    if work.exists() and (not marker.is_file() or marker.read_text(encoding="utf-8") != description):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    marker.write_text(description, encoding="utf-8")


def _distribute(store: Store, shard: int, output: Path, root: Path, options: CombineOptions) -> None:
    """Write the rows of one file to the parts of their images; the folder `output` appears when complete."""
    if output.exists():
        return
    unfinished = output.with_name(f"unfinished-{output.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with ExitStack() as files:
        # Open a file for each part
        streams = []
        for part in range(PARTS):
            file = files.enter_context(pa.OSFile(str(unfinished / f"{part}.arrow"), "wb"))
            streams.append(files.enter_context(pa.ipc.new_stream(file, SCHEMA)))

        # Write many rows at once: a write to each part for every small table would be slow
        tables: list[pa.Table] = []
        for table in store.tables(shard):
            tables.append(table)
            if sum(map(len, tables)) >= _BATCH:
                _distribute_rows(pa.concat_tables(tables), streams, store, root, options)
                tables = []
        if tables:
            _distribute_rows(pa.concat_tables(tables), streams, store, root, options)
    os.replace(unfinished, output)


def _distribute_rows(
    table: pa.Table,
    streams: Sequence[pa.ipc.RecordBatchStreamWriter],
    store: Store,
    root: Path,
    options: CombineOptions,
) -> None:
    """Append each row to the part of its image, with image names relative to `root` and moved to COCO's."""
    index = options.index
    store_folder = _relative(store.image_root or root, root)
    coco_folder = _relative(index.coco_folder or root, root)
    check_nulls(table, store.path)
    columns = {name: table[name].to_pylist() for name in (*_IDENTITY, "width", "height")}
    if None in columns["image"]:
        raise InvalidInputError(
            f"The store {store.path} has rows that name no image file; combine stores of image files."
        )
    boxes: list[Any] | None = None
    rows_by_part: dict[int, list[int]] = defaultdict(list)
    identities = zip(columns["source"], columns["image_id"], columns["image"], strict=True)
    for row, (source, image_id, image) in enumerate(identities):
        # Name the image, and choose its part
        names = index.names_of(source, image_id)
        columns["image_id"][row] = names[0]
        columns["image"][row] = store_folder + image
        if not options.excluded.isdisjoint(names):
            continue
        rows_by_part[zlib.crc32(names[0].encode()) % PARTS].append(row)

        # Move texts of an image that COCO also has to COCO's image, which may have another size
        moved = index.moved_to(source, names[0])
        if moved is not None:
            boxes = table["boxes"].to_pylist() if boxes is None else boxes
            old = columns["width"][row], columns["height"][row]
            boxes[row] = [_rescale(box, old, (moved.width, moved.height)) for box in boxes[row]]
            columns["image"][row] = coco_folder + moved.file_name
            columns["width"][row], columns["height"][row] = moved.width, moved.height

    # Put the changed columns into the table, and write the rows of each part
    if boxes is not None:
        columns["boxes"] = boxes
    for name, values in columns.items():
        field = SCHEMA.field(name)
        table = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    table = table.cast(SCHEMA)
    for part, rows in rows_by_part.items():
        streams[part].write_table(table.take(rows))


def _relative(folder: Path, root: Path) -> str:
    """Return the prefix that makes a name relative to `folder` relative to `root`."""
    path = Path(os.path.relpath(folder.resolve(), root)).as_posix()
    return "" if path == "." else f"{path}/"


def _rescale(box: Sequence[float], old: tuple[int, int], new: tuple[int, int]) -> list[float]:
    """Scale a box x0, y0, x1, y1 from an image size (width, height) `old` to the size `new`."""
    x_scale, y_scale = new[0] / old[0], new[1] / old[1]
    x0, y0, x1, y1 = box
    return [x0 * x_scale, y0 * y_scale, min(x1 * x_scale, new[0]), min(y1 * y_scale, new[1])]


def _combine_part(part: int, names: Sequence[str], work: Path, max_length: int, exact: bool) -> None:
    """Combine the records of each image of a part, and write them to one file."""
    finished = _shard(work, part)
    if finished.exists():
        return

    # Read the records of each image
    by_image: dict[str, list[Record]] = defaultdict(list)
    for name in names:
        with pa.OSFile(str(work / name / f"{part}.arrow")) as file:
            for batch in pa.ipc.open_stream(file):
                for row in batch.to_pylist():
                    by_image[row["image_id"]].append(from_row(row))

    # Combine them one image at a time
    def combine_all() -> Iterator[Record]:
        for image_id in sorted(by_image):
            yield from combine_records(by_image[image_id], max_length, exact)

    unfinished = work / f"unfinished-{part:05d}.parquet"
    write_shard(unfinished, combine_all())
    os.replace(unfinished, finished)


def _shard(work: Path, part: int) -> Path:
    return work / f"data-{part:05d}.parquet"
