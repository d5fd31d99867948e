"""How fast a store is read in random order and in order, against simpler ways to keep the same records.

Prints rows per second of each way, and its ratio to the store's.
Run: python benchmarks/store_reading.py [ROWS]
"""

from __future__ import annotations

import pickle
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow.parquet as pq

from mdetr.data.record import Record, from_row
from mdetr.data.store import Store, write_store

READS = 500


def make_record(number: int) -> Record:
    """A record as of an average caption: four boxes, twelve words."""
    text = f"caption {number}: two small red cubes left of a large metal ball and a cylinder"
    boxes = tuple((10.0 * k, 5.0, 10.0 * k + 8.5, 60.25) for k in range(4))
    spans = tuple(((8 + 4 * k, 12 + 4 * k),) for k in range(4))
    return Record(
        "bench", "train", str(number), f"{number // 5}.png", str(number // 5), 240, 160, text, boxes, spans
    )


def rows_per_second(read: Callable[[int], object], rows: Iterable[int]) -> float:
    """Call `read` with each row number."""
    count, start = 0, time.perf_counter()
    for row in rows:
        read(row)
        count += 1
    return count / (time.perf_counter() - start)


def read_without_cache(store: Store) -> Callable[[int], Record]:
    """A Parquet file of the store, of which each read decodes a whole row group into Python."""
    file = pq.ParquetFile(next(store.path.glob("*.parquet")), memory_map=True)
    size = file.metadata.row_group(0).num_rows

    def read(row: int) -> Record:
        return from_row(file.read_row_group(row // size, use_threads=False).to_pylist()[row % size])

    return read


def main() -> None:
    """Write a store, read it in each way, and print a table."""
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", map(make_record, range(num_rows)), None)
        on_disk = sum(file.stat().st_size for file in store.path.iterdir())
        pickled = pickle.dumps(list(store))
        in_memory = pickle.loads(pickled)
        shuffled = random.Random(0).sample(range(num_rows), READS)
        neighbors = [row for first in shuffled for row in range(first, min(first + 5, num_rows))]
        speeds = {
            "store, random rows": rows_per_second(Store.open(store.path).__getitem__, shuffled),
            "store, five rows of an image at a time": rows_per_second(
                Store.open(store.path).__getitem__, neighbors
            ),
            "store, in order": rows_per_second(lambda _: None, (0 for _ in store)),
            "whole row group each time, random rows": rows_per_second(read_without_cache(store), shuffled),
            "list in memory, random rows": rows_per_second(in_memory.__getitem__, shuffled),
        }
    print(
        f"{num_rows:,} rows: {on_disk / 1e6:.1f} MB as a store, {len(pickled) / 1e6:.1f} MB as a pickled list"
    )
    for name, speed in speeds.items():
        print(f"{name:42s} {speed:12,.0f} rows/s   {speed / speeds['store, random rows']:10.2f} x")


if __name__ == "__main__":
    main()
