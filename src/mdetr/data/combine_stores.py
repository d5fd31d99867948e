"""Combination of the captions of each image of several stores.

Rows are first dealt out to parts by their image, so that a part fits in memory with all texts of its images;
then the parts are combined, several at a time. Each finished file stays until the store is complete, so that
a run that was stopped resumes.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
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
from mdetr.errors import InvalidInputError

PARTS = 64
_BATCH = 16_384  # rows that are dealt out at once
_IDENTITY = ("source", "image_id", "image")

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and of all."""


@dataclass(frozen=True)
class CombineOptions:
    """What decides the result of a combination.

    max_length: characters of a combined caption. exact: count them as the published data were made.
    excluded: names of images (`ImageIndex.names_of`) whose texts are left out.
    index: what is known of images that several data sets share.
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
    """Combine the captions of each image of all stores; the result does not depend on `processes`.

    Images of the result are relative to the folder that holds the image folders of all stores. What is
    finished stays in `.NAME-combining` beside the output until the output is complete, and is used by the
    next run with the same stores and options.

    Raises:
        InvalidInputError: `output` exists, or a store holds its images itself.
        InvalidRecordError: a store has a row that breaks a rule.

    Source: arXiv 2104.12763, appendix B ("data combination").
    """
    folder = Path(output)
    if folder.exists() and not overwrite:
        raise InvalidInputError(f"{folder} exists already; remove it or choose another path.")
    root = _common_root(stores, options.index)
    work = folder.parent / f".{folder.name}-combining"
    _begin(work, _description(stores, options))
    pieces = [
        (store, shard, f"dealt-{number:03d}-{shard:05d}")
        for number, store in enumerate(stores)
        for shard in range(store.num_shards)
    ]
    dealt = [name for _, _, name in pieces]
    deal = [(store, shard, work / name, root, options) for store, shard, name in pieces]
    parts = [(part, dealt, work, options.max_length, options.exact) for part in range(PARTS)]
    total, done = len(deal) + len(parts), 0
    for step, tasks in ((_deal, deal), (_combine_part, parts)):
        for _ in _run(step, tasks, processes):
            done += 1
            if progress:
                progress(done, total)
    shards = [_shard(work, part) for part in range(PARTS)]
    made = publish_store(folder, shards, root, overwrite=overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return made


def _run(step: Callable[..., None], tasks: Sequence[tuple[Any, ...]], processes: int) -> Iterator[None]:
    """Do a step for all tasks, and yield as each is done."""
    if processes == 1:  # nothing to start, which takes seconds
        for task in tasks:
            step(*task)
            yield
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(step, *task) for task in tasks]
        try:
            for future in as_completed(waiting):
                future.result()
                yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def excluded_images(stores: Iterable[Store], index: ImageIndex) -> frozenset[str]:
    """The names of all images of stores that must not be trained on."""
    names: set[str] = set()
    for store in stores:
        seen: set[tuple[str, str]] = set()
        for batch in store.columns(["source", "image_id"]).to_batches():
            seen.update(zip(*(batch[column].to_pylist() for column in ("source", "image_id")), strict=True))
        for source, image_id in seen:
            names.update(index.names_of(source, image_id))
    return frozenset(names)


def _common_root(stores: Sequence[Store], index: ImageIndex) -> Path:
    roots = []
    for store in stores:
        if store.image_root is None:
            raise InvalidInputError(
                f"The store {store.path} holds its images itself; combine stores of files."
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
    """Keep what an earlier run of the same work finished; remove that of any other."""
    marker = work / "work.json"
    if work.exists() and (not marker.is_file() or marker.read_text(encoding="utf-8") != description):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    marker.write_text(description, encoding="utf-8")


def _deal(store: Store, shard: int, dealt: Path, root: Path, options: CombineOptions) -> None:
    """Write the rows of a file of a store to the part of their image; `dealt` appears when all are there."""
    if dealt.exists():
        return
    unfinished = dealt.with_name(f"unfinished-{dealt.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with ExitStack() as files:
        streams = []
        for part in range(PARTS):
            file = files.enter_context(pa.OSFile(str(unfinished / f"{part}.arrow"), "wb"))
            streams.append(files.enter_context(pa.ipc.new_stream(file, SCHEMA)))
        waiting: list[pa.Table] = []
        for table in store.tables(shard):
            waiting.append(table)
            if sum(len(rows) for rows in waiting) >= _BATCH:
                _deal_rows(pa.concat_tables(waiting), streams, store, root, options)
                waiting = []
        if waiting:
            _deal_rows(pa.concat_tables(waiting), streams, store, root, options)
    os.replace(unfinished, dealt)


def _deal_rows(
    table: pa.Table,
    streams: Sequence[pa.ipc.RecordBatchStreamWriter],
    store: Store,
    root: Path,
    options: CombineOptions,
) -> None:
    """Append each row to the part of its image, its image named from the new root and moved to COCO's."""
    index = options.index
    own_folder = _relative(store.image_root or root, root)
    coco_folder = _relative(index.coco_folder or root, root)
    columns = {name: table[name].to_pylist() for name in (*_IDENTITY, "width", "height")}
    boxes: list[Any] | None = None
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, (source, image_id, image) in enumerate(zip(*(columns[name] for name in _IDENTITY), strict=True)):
        names = index.names_of(source, image_id)
        columns["image_id"][row] = names[0]
        columns["image"][row] = own_folder + image
        if not options.excluded.isdisjoint(names):
            continue
        rows_of[zlib.crc32(names[0].encode()) % PARTS].append(row)
        moved = index.moved_to(source, names[0])
        if moved is not None:
            boxes = table["boxes"].to_pylist() if boxes is None else boxes
            old = columns["width"][row], columns["height"][row]
            boxes[row] = [_rescale(box, old, (moved.width, moved.height)) for box in boxes[row]]
            columns["image"][row] = coco_folder + moved.file_name
            columns["width"][row], columns["height"][row] = moved.width, moved.height
    if boxes is not None:
        columns["boxes"] = boxes
    for name, values in columns.items():
        field = SCHEMA.field(name)
        table = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    for part, rows in rows_of.items():
        streams[part].write_table(table.take(rows))


def _relative(folder: Path, root: Path) -> str:
    """What stands before a name in `folder` to name it from `root`."""
    path = Path(os.path.relpath(folder.resolve(), root)).as_posix()
    return "" if path == "." else f"{path}/"


def _rescale(box: Sequence[float], old: tuple[int, int], new: tuple[int, int]) -> list[float]:
    """x0, y0, x1, y1 in an image of the size (width, height) `old`, in the same image of the size `new`."""
    x_scale, y_scale = new[0] / old[0], new[1] / old[1]
    x0, y0, x1, y1 = box
    return [x0 * x_scale, y0 * y_scale, min(x1 * x_scale, new[0]), min(y1 * y_scale, new[1])]


def _combine_part(part: int, dealt: Sequence[str], work: Path, max_length: int, exact: bool) -> None:
    finished = _shard(work, part)
    if finished.exists():
        return
    of_image: dict[str, list[Record]] = defaultdict(list)
    for name in dealt:
        with pa.OSFile(str(work / name / f"{part}.arrow")) as file:
            for batch in pa.ipc.open_stream(file):
                for row in batch.to_pylist():
                    of_image[row["image_id"]].append(from_row(row))
    unfinished = work / f"unfinished-{part:05d}.parquet"
    write_shard(
        unfinished,
        (
            record
            for name in sorted(of_image)
            for record in combine_records(of_image[name], max_length, exact)
        ),
    )
    os.replace(unfinished, finished)


def _shard(work: Path, part: int) -> Path:
    return work / f"data-{part:05d}.parquet"
