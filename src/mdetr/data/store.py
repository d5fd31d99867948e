"""The store: a data set on disk, as a folder of Parquet files.

A store is a folder with `store.json` (schema version, image root, number of rows) and Parquet shards.
Rows are read through a memory map, one small row group at a time: millions of rows cost a process no memory.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.data.image_paths import image_path
from mdetr.data.record import SCHEMA, Record, from_row, to_row, validate_record
from mdetr.data.store_files import (
    DESCRIPTION,
    SCHEMA_VERSION,
    Stamp,
    check_nulls,
    read_description,
    read_group_sizes,
    reading,
    relative_root,
    stamp_of,
)
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.files import full_disk, replace_folder, restore_folder
from mdetr.processes import locked

if TYPE_CHECKING:
    from torch import Tensor

ROWS_PER_GROUP = 256
ROWS_PER_SHARD = 256 * 1024
_BYTES_PER_GROUP = 4 << 20  # of embedded images: a random read decodes a whole row group
_BYTES_PER_SHARD = 1 << 30  # of embedded images: many processes share a store by its files
_CACHED_GROUPS = 16
_NAMES = ["source", "split", "id", "image_id"]

OnBad = Callable[[InvalidRecordError], None]
"""What to do with a record that breaks a rule, instead of stopping."""


class Store:
    """A sequence of records on disk; opens quickly, pickles as its path, and can be read in random order."""

    def __init__(
        self, path: Path, image_root: Path | None, shards: Sequence[tuple[Path, Sequence[int]]]
    ) -> None:
        """Set up the row groups; users call `Store.open`.

        Args:
            path: Folder of the store.
            image_root: Folder that the image names are relative to; None if all images are embedded.
            shards: Each Parquet file with the number of rows of each of its row groups.
        """
        self._rows: npt.NDArray[np.int64] | None = None  # rows of a selection; None for all
        self.path = path
        self.image_root = image_root

        # Index the row groups of all files
        self._shards: list[Path] = []
        self._stamps: list[Stamp] = []
        self._groups: list[tuple[int, int]] = []  # file and number in the file of each group
        self._starts = [0]  # first row of each group, and the end
        for shard, (file, rows_of_groups) in enumerate(shards):
            self._shards.append(file)
            self._stamps.append(stamp_of(file))
            for group, num_rows in enumerate(rows_of_groups):
                self._groups.append((shard, group))
                self._starts.append(self._starts[-1] + num_rows)
        self._forget_open_files()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open a store; only the footers of its files are read.

        Args:
            path: Folder of the store.

        Returns:
            The store.

        Raises:
            InvalidInputError: There is no store at `path`, or it is damaged or of another version.
        """
        folder = Path(path)
        description = read_description(folder)
        shards: list[tuple[Path, list[int]]] = []
        for name in description["shards"]:
            shards.append((folder / name, read_group_sizes(folder / name)))
        root = description["image_root"]
        store = cls(folder, None if root is None else folder / root, shards)
        if len(store) != description["rows"]:
            raise InvalidInputError(
                f"The store {folder} should have {description['rows']} rows but its files hold {len(store)}; "
                "import the data again."
            )
        return store

    def select(self, rows: npt.NDArray[np.int64]) -> Store:
        """Select rows as a new store, without a copy of the data.

        Args:
            rows: (n,) row numbers of this store, ascending.

        Returns:
            The selection.
        """
        selection = copy.copy(self)
        selection._rows = rows if self._rows is None else self._rows[rows]
        return selection

    def __len__(self) -> int:
        return self._starts[-1] if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Read and validate the record of one row.

        Args:
            index: Row number; negative numbers count from the end.

        Returns:
            The record.

        Raises:
            IndexError: The store has fewer rows.
            InvalidRecordError: The row breaks a rule of the schema.
        """
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"The store {self.path} has {len(self)} rows; there is no row {index}.")
        row = row if self._rows is None else int(self._rows[row])
        return self._to_record(row, self._read_row(row).to_pylist()[0])

    def name_of(self, index: int) -> dict[str, str]:
        """The source, split, id and image_id of one row, whether or not the row breaks a rule."""
        row = index if self._rows is None else int(self._rows[index])
        name: dict[str, str] = self._read_row(row).select(_NAMES).to_pylist()[0]
        return name

    def __iter__(self) -> Iterator[Record]:
        if self._rows is not None:
            yield from map(self.__getitem__, range(len(self)))
            return
        for group, start in enumerate(self._starts[:-1]):
            for offset, values in enumerate(self._read_group(group).to_pylist()):
                yield self._to_record(start + offset, values)

    @property
    def num_shards(self) -> int:
        """Number of files, which can be read in parallel."""
        return len(self._shards)

    @property
    def changed(self) -> int:
        """Time at which the store was written, in nanoseconds."""
        return (self.path / DESCRIPTION).stat().st_mtime_ns

    def tables(self, shard: int) -> Iterator[pa.Table]:
        """Read the rows of one file as tables of `SCHEMA`, in order."""
        for group, (group_shard, _) in enumerate(self._groups):
            if group_shard == shard:
                table = self._read_group(group)
                if self._rows is not None:
                    first, end = np.searchsorted(self._rows, self._starts[group : group + 2])
                    table = table.take(self._rows[first:end] - self._starts[group])
                yield table

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Read columns of all rows.

        Args:
            names: Names of columns of `SCHEMA`.

        Returns:
            The columns, with the rows in order.

        Raises:
            InvalidInputError: A file was removed or changed, or is damaged.
            InvalidRecordError: A row lacks a value.
        """
        tables = [SCHEMA.empty_table().select(list(names))]
        for shard, stamp in zip(self._shards, self._stamps, strict=True):
            with reading(shard, stamp):
                tables.append(pq.read_table(shard, columns=list(names), memory_map=True))
        table = pa.concat_tables(tables, promote_options="permissive")
        check_nulls(table, self.path)
        return table if self._rows is None else table.take(self._rows)

    def image_ids(self) -> pa.ChunkedArray:
        """Read the image id of every row."""
        return self.columns(["image_id"])["image_id"]

    def load_image(self, record: Record) -> Tensor:
        """Load the image of a record.

        Args:
            record: Record of this store.

        Returns:
            (3, H, W) uint8, RGB.

        Raises:
            InvalidInputError: The image is missing or damaged, or outside the store's folder of images.
            InvalidRecordError: The image has another size than the record states, so its boxes are wrong.
        """
        from mdetr.data.image_tensors import load_image_tensor  # imports torch, which only images need

        if isinstance(record.image, bytes):
            image = load_image_tensor(record.image)
        else:
            image = load_image_tensor(image_path(self.image_root, record.image))
        height, width = image.shape[-2:]
        if (width, height) != (record.width, record.height):
            raise InvalidRecordError(
                f"Record {record.id!r} of the store {self.path} says that its image {record.image_id!r} has "
                f"{record.width} x {record.height} pixels, but it has {width} x {height}: its boxes belong "
                "to another version of it."
            )
        return image

    def __getstate__(self) -> dict[str, Any]:
        hidden = {"_open_files", "_cache", "_process"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_open_files()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} rows)"

    def _forget_open_files(self) -> None:
        self._open_files: dict[int, pq.ParquetFile] = {}
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._process = os.getpid()

    def _read_row(self, row: int) -> pa.Table:
        group = bisect_right(self._starts, row) - 1
        return self._read_group(group).slice(row - self._starts[group], 1)

    def _read_group(self, group: int) -> pa.Table:
        if self._process != os.getpid():  # a forked worker must not share its parent's files
            self._forget_open_files()
        table = self._cache.get(group)
        if table is None:
            shard, number = self._groups[group]
            with reading(self._shards[shard], self._stamps[shard]):
                if shard not in self._open_files:
                    self._open_files[shard] = pq.ParquetFile(self._shards[shard], memory_map=True)
                table = self._open_files[shard].read_row_group(number, use_threads=False)
                table = table.select(SCHEMA.names)  # a file may have more columns, in another order
            self._cache[group] = table
            if len(self._cache) > _CACHED_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return table

    def _to_record(self, row: int, values: dict[str, Any]) -> Record:
        return from_row(values, f"Row {row} of the store {self.path}")


def write_store(
    path: str | os.PathLike[str],
    records: Iterable[Record],
    image_root: str | os.PathLike[str] | None,
    *,
    overwrite: bool = False,
    on_bad: OnBad | None = None,
    rows_per_group: int = ROWS_PER_GROUP,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Store:
    """Write records to a new store, which appears at `path` only when it is complete.

    Args:
        path: Folder to create.
        records: Any number of records; only one row group is in memory at a time.
        image_root: Folder that `Record.image` is relative to; None if all images are embedded.
        overwrite: Whether to replace a store that already exists at `path`.
        on_bad: Called with the error of each record that breaks a rule, which is left out; None to raise it.
        rows_per_group: Number of rows that a random read decodes at once.
        rows_per_shard: Number of rows per file; with embedded images, a file ends after 1 GiB of them.

    Returns:
        The new store.

    Raises:
        InvalidRecordError: A record breaks a rule or is a duplicate, and `on_bad` is None.
        InvalidInputError: `path` already exists.
    """
    folder = Path(path)
    with _new_store(folder, image_root, overwrite) as unfinished:
        groups = _batch(_valid_records(records, on_bad), rows_per_group)
        _write_shards(unfinished, groups, rows_per_shard)
    return Store.open(folder)


def write_shard(file: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """Write valid records to one file, for `publish_store`."""
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for group in _batch(records, ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_pylist([to_row(record) for record in group], schema=SCHEMA))


def publish_store(
    path: str | os.PathLike[str],
    shards: Sequence[Path],
    image_root: str | os.PathLike[str] | None,
    *,
    overwrite: bool = False,
) -> Store:
    """Make a store of files from `write_shard`, which are moved into it.

    Args:
        path: Folder to create.
        shards: The files, in the order of their rows.
        image_root: Folder that `Record.image` is relative to; None if all images are embedded.
        overwrite: Whether to replace a store that already exists at `path`.

    Returns:
        The new store.

    Raises:
        InvalidInputError: `path` already exists, or a file is missing or damaged.
    """
    folder = Path(path)
    for shard in shards:
        read_group_sizes(shard)
    with _new_store(folder, image_root, overwrite) as unfinished:
        for number, shard in enumerate(shards):
            os.replace(shard, unfinished / f"data-{number:05d}.parquet")
    return Store.open(folder)


@contextmanager
def _new_store(folder: Path, image_root: str | os.PathLike[str] | None, overwrite: bool) -> Iterator[Path]:
    """Create a temporary folder that becomes the store `folder` at the end, or is removed on an error."""
    # Refuse to replace anything but a store, and a store only on request
    restore_folder(folder)
    if folder.exists() and not overwrite:
        raise InvalidInputError(
            f"{folder} already exists; remove it, choose another path, or allow overwriting it."
        )
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise InvalidInputError(
            f"{folder} exists and is not a store, so it is not overwritten; choose another path."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished, lock = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.lock")
    with locked(lock) as is_alone:
        if not is_alone:
            raise InvalidInputError(
                f"Another process writes the store {folder}; wait until it ends, or choose another path."
            )
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        unfinished.mkdir()
        try:
            yield unfinished

            # Describe the files, and move them to their final path
            shards = sorted(unfinished.glob("*.parquet"))
            description = {
                "schema_version": SCHEMA_VERSION,
                "image_root": None if image_root is None else relative_root(Path(image_root), folder),
                "rows": sum(sum(read_group_sizes(shard)) for shard in shards),
                "shards": [shard.name for shard in shards],
            }
            content = json.dumps(description, indent=2) + "\n"
            (unfinished / DESCRIPTION).write_text(content, encoding="utf-8")
            replace_folder(unfinished, folder)
        except OSError as error:
            reason = full_disk(error)
            if reason is None:
                raise
            raise InvalidInputError(
                f"The store {folder} could not be written ({reason}); free some space, or choose "
                "another disk."
            ) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _valid_records(records: Iterable[Record], on_bad: OnBad | None) -> Iterator[Record]:
    seen: set[int] = set()
    for record in records:
        try:
            validate_record(record)
            key = hash((record.source, record.split, record.id))
            if key in seen:
                raise InvalidRecordError(
                    f"Record {record.id!r} of source {record.source!r}, split {record.split!r} is a "
                    "duplicate."
                )
            seen.add(key)
        except InvalidRecordError as error:
            if on_bad is None:
                raise
            on_bad(error)
        else:
            yield record


def _batch(records: Iterable[Record], rows_per_group: int) -> Iterator[list[Record]]:
    group: list[Record] = []
    embedded = 0
    for record in records:
        group.append(record)
        embedded += _embedded_bytes(record)
        if len(group) == rows_per_group or embedded >= _BYTES_PER_GROUP:
            yield group
            group, embedded = [], 0
    if group:
        yield group


def _embedded_bytes(record: Record) -> int:
    return len(record.image) if isinstance(record.image, bytes) else 0


def _write_shards(folder: Path, groups: Iterable[list[Record]], rows_per_shard: int) -> None:
    """Write each group as one row group."""
    shards = rows_in_shard = embedded = 0
    writer: pq.ParquetWriter | None = None
    try:
        for group in groups:
            if writer is None or rows_in_shard >= rows_per_shard or embedded >= _BYTES_PER_SHARD:
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(folder / f"data-{shards:05d}.parquet", SCHEMA, compression="zstd")
                shards, rows_in_shard, embedded = shards + 1, 0, 0
            writer.write_table(pa.Table.from_pylist([to_row(record) for record in group], schema=SCHEMA))
            rows_in_shard += len(group)
            embedded += sum(map(_embedded_bytes, group))
    finally:
        if writer is not None:
            writer.close()
