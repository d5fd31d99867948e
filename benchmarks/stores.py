"""A store of the pre-training set's size: time to open it, and what random reads add to a process's memory.

The floor of opening is reading the footers of its files; that of reading is reading as many rows in order.

Run: .venv/bin/python benchmarks/stores.py [--rows 1300000]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.data.record import SCHEMA, Record, to_row
from mdetr.data.store import ROWS_PER_GROUP, ROWS_PER_SHARD, Store, publish_store

READS = 100_000
BOXES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_300_000)
    parser.add_argument("--read", type=Path, help="Only read this store at random, and print the memory.")
    arguments = parser.parse_args()
    if arguments.read:
        _read_at_random(Store.open(arguments.read))
        return
    with tempfile.TemporaryDirectory() as folder:
        store = _generate(Path(folder), arguments.rows)
        opened = min(_time(lambda: Store.open(store.path)) for _ in range(3))
        footers = min(
            _time(lambda: [pq.read_metadata(f) for f in store.path.glob("*.parquet")]) for _ in range(3)
        )
        size = sum(file.stat().st_size for file in store.path.iterdir())
        print(f"{len(store):,} rows, {size / 2**20:,.0f} MiB")
        print(f"opening: {opened:.3f} s; the footers alone {footers:.3f} s; ratio {opened / footers:.2f}")
        subprocess.run([sys.executable, __file__, "--read", str(store.path)], check=True)


def _read_at_random(store: Store) -> None:
    rows = np.random.default_rng(0).integers(len(store), size=READS)
    for row in rows[:100]:
        store[int(row)]
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    for row in rows:
        store[int(row)]
    random = time.perf_counter() - started
    after = psutil.Process().memory_info().rss
    started = time.perf_counter()
    for _, _ in zip(store, range(READS), strict=False):
        pass
    in_order = time.perf_counter() - started
    print(f"{READS:,} random reads: {random:.1f} s, {random / in_order:.1f} times reading as many in order")
    print(f"memory: {before / 2**20:,.0f} MiB after 100 reads, {(after - before) / 2**20:,.0f} MiB more then")


def _generate(folder: Path, rows: int) -> Store:
    random = np.random.default_rng(0)
    text = "a man in a red shirt next to a dog on the grass. the tall tree behind the house. a blue car."
    starts = random.uniform(0, 300, (BOXES, 2))
    boxes = np.concatenate([starts, starts + random.uniform(5, 100, (BOXES, 2))], axis=1).tolist()
    spans = tuple(((4 * n, 4 * n + 3),) for n in range(BOXES))
    record = Record("mixed", "train", "0", "0.jpg", "0", 640, 480, text, tuple(map(tuple, boxes)), spans)
    shards = []
    for start in range(0, rows, ROWS_PER_SHARD):
        shards.append(folder / f"{start}.parquet")
        with pq.ParquetWriter(shards[-1], SCHEMA, compression="zstd") as writer:
            for first in range(start, min(start + ROWS_PER_SHARD, rows), ROWS_PER_GROUP):
                numbers = range(first, min(first + ROWS_PER_GROUP, rows))
                group = [
                    to_row(replace(record, id=str(n), image=f"{n}.jpg", image_id=str(n))) for n in numbers
                ]
                writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
    return publish_store(folder / "store", shards, None)


def _time(action: object) -> float:
    started = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
