"""Combining the captions of a pre-training set of the true size: time and memory.

Generated annotations of 108,000 images with 56 regions each, as many as Visual Genome's with RefCOCO's and
GQA's; the floor is reading the same rows and writing them again, without combining.

Run: .venv/bin/python benchmarks/combining.py [--images 108000]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.data.combine_stores import CombineOptions, combine_stores
from mdetr.data.record import SCHEMA
from mdetr.data.store import ROWS_PER_GROUP, Store, publish_store, write_store

REGIONS = 56
IMAGES_PER_SHARD = 4500
WORDS = [
    "man",
    "woman",
    "dog",
    "car",
    "tree",
    "red",
    "blue",
    "white",
    "small",
    "tall",
    "on",
    "near",
    "the",
    "sky",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=108_000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = _generate(Path(folder), arguments.images)
        print(f"{len(store):,} regions of {arguments.images:,} images, {arguments.processes} processes")
        part = min(len(store), 100_000)
        started = time.perf_counter()
        write_store(Path(folder) / "copy", (store[row] for row in range(part)), folder)
        copied = (time.perf_counter() - started) * len(store) / part / arguments.processes
        peak = _PeakMemory()
        started = time.perf_counter()
        made = combine_stores([store], Path(folder) / "made", CombineOptions(), processes=arguments.processes)
        seconds = time.perf_counter() - started
        print(f"combined  {seconds:8.1f} s  into {len(made):,} captions")
        print(f"copied    {copied:8.1f} s  (scaled from {part:,} rows and divided by the processes)")
        print(f"ratio     {seconds / copied:8.2f}   memory {peak.stop() / 2**30:.2f} GiB at most")


def _generate(folder: Path, images: int) -> Store:
    random = np.random.default_rng(0)
    shards = []
    for first in range(0, images, IMAGES_PER_SHARD):
        numbers = np.repeat(np.arange(first, min(first + IMAGES_PER_SHARD, images)), REGIONS)
        shards.append(folder / f"{first}.parquet")
        with pq.ParquetWriter(shards[-1], SCHEMA, compression="zstd") as writer:
            for start in range(0, len(numbers), ROWS_PER_GROUP):
                writer.write_table(_rows(numbers[start : start + ROWS_PER_GROUP], start, random))
    return publish_store(folder / "regions", shards, folder)


def _rows(images: np.ndarray, start: int, random: np.random.Generator) -> pa.Table:
    count = len(images)
    corners = random.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(20, 200, (count, 2))], axis=1)
    texts = [" ".join(words) for words in random.choice(WORDS, (count, 6))]
    rows = [
        {
            "source": "visual_genome",
            "split": "train",
            "id": f"{image}-{start + place}",
            "image": f"{image}.jpg",
            "image_id": str(image),
            "width": 500,
            "height": 500,
            "text": text,
            "boxes": [box],
            "spans": [[[0, text.index(" ")]]],
        }
        for place, (image, text, box) in enumerate(zip(images.tolist(), texts, boxes.tolist(), strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


class _PeakMemory:
    """The most memory that this process and its children held together, in bytes (sampled)."""

    def __init__(self) -> None:
        self._peak = 0
        self._going = True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._going = False
        self._thread.join()
        return max(self._peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while self._going:
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self._peak = max(self._peak, total)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
