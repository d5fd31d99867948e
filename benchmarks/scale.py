"""Data of pre-training at the paper's size: import, combination, and an epoch of many processes with workers.

    python benchmarks/scale.py [--rows 1300000] [--ranks 8] [--workers 4] [--batches 200] [--folder FOLDER]

A generated source of captions with up to 250 characters is imported and combined by the command, and its
store is opened, checked and ordered by the functions that `mdetr train` uses. Images are hard links to a few
files, so that the whole takes about 2 GB of disk at the full size.

Prints for each stage the seconds, the rows per second, the seconds of processor time of all its processes,
which other work on the machine does not disturb, and the most memory that they held together. Memory is the
proportional set size, which counts what processes share only once. Then it prints for an epoch how often each
row came in all ranks together, and the same after a resume in the middle; and for one rank, whose workers
are real processes, the time to the first batch and the memory of each worker. It fails if a row came twice
or was left out, except for the incomplete batch at the end of an epoch, or if a worker gave another row than
due.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

EPOCH = 3
CAPTIONS_PER_IMAGE = 6
BOXES = 4
POOL = 20_000  # different captions
FILES = 16  # different images
SHAPES = 5000  # whose time is measured
SIZE = 640, 480
WORDS = ["man", "woman", "dog", "car", "tree", "red", "white", "small", "tall", "near", "sky", "street"]
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_300_000, help="captions of the source")
    parser.add_argument("--ranks", type=int, default=8, help="processes of a training, of which one is real")
    parser.add_argument("--workers", type=int, default=4, help="real processes that read data for it")
    parser.add_argument("--batch-size", type=int, default=64, help="examples of a step, over all ranks")
    parser.add_argument("--batches", type=int, default=200, help="batches that the real workers read")
    parser.add_argument("--folder", type=Path, help="folder that is kept, whose finished stages are reused")
    parser.add_argument("--epoch-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.epoch_of:
        measure_epoch(arguments.epoch_of, arguments)
        return
    with tempfile.TemporaryDirectory() as temporary:
        prepare(arguments.folder or Path(temporary), arguments)


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """Run each stage in processes of its own, and measure it."""
    folder.mkdir(parents=True, exist_ok=True)
    source, imported, combined = (folder / name for name in ("captions.jsonl", "imported", "combined"))
    if not source.exists():
        started = time.perf_counter()
        generate(source, arguments.rows)
        print(f"generated {arguments.rows:,} captions in {time.perf_counter() - started:.0f} s", flush=True)
    mdetr = [sys.executable, "-m", "mdetr"]
    stages = (
        ("import", imported, ["data", "import", "jsonl", source, imported]),
        ("combine", combined, ["data", "combine", imported, "--output", combined, "--processes", "2"]),
    )
    for name, store, command in stages:
        if not store.exists():
            run_stage(name, arguments.rows, [*mdetr, *map(str, command)])
        size = sum(file.stat().st_size for file in store.iterdir()) / MIB
        rows = json.loads((store / "store.json").read_text())["rows"]
        print(f"{'':10}{rows:,} rows, {size:,.0f} MiB on disk", flush=True)
    run_stage("epoch", rows, [sys.executable, __file__, *sys.argv[1:], "--epoch-of", str(combined)])


def run_stage(name: str, rows: int, command: list[str]) -> None:
    """Run a command, and print its time and the most memory that it and its children held together."""
    before, started, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL if name != "epoch" else None)
    while process.poll() is None:
        peak = max(peak, sum(map(memory_of, [process, *children_of(process)])))
        time.sleep(0.5)
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    cpu = used.ru_utime - before.ru_utime + used.ru_stime - before.ru_stime
    print(
        f"{name:10}{seconds:8.1f} s {rows / seconds:10,.0f} rows/s   processor {cpu:8.1f} s "
        f"{rows / cpu:10,.0f} rows/s   memory {peak:6,.0f} MiB",
        flush=True,
    )


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes that a process has started, and those that they have."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def memory_of(process: psutil.Process) -> float:
    """Proportional set size in MiB; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def generate(file: Path, rows: int) -> None:
    """Write the captions of a source, and its images."""
    random = np.random.default_rng(0)

    # Draw a pool of captions with the words of each box
    pool: list[tuple[str, list[list[list[int]]]]] = []
    for length in random.integers(100, 251, POOL):
        text = " ".join(random.choice(WORDS, 80))[:length].rstrip()
        starts = [match for match in range(len(text)) if match == 0 or text[match - 1] == " "]
        words = np.sort(random.choice(starts[:-1], BOXES, replace=False)).tolist()
        pool.append((text, [[[start, text.index(" ", start)]] for start in words]))

    # Draw a few images
    images = file.parent / "files"
    images.mkdir(exist_ok=True)
    for number in range(FILES):
        pixels = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(SIZE).save(images / f"{number}.jpg", quality=90)

    # Write a line for each caption, and a link for each image
    with file.with_suffix(".new").open("w") as lines:
        for first in range(0, rows, CAPTIONS_PER_IMAGE):
            number = first // CAPTIONS_PER_IMAGE
            name = f"images/{number // 1000:04d}/{number:07d}.jpg"
            (file.parent / name).parent.mkdir(parents=True, exist_ok=True)
            if not (file.parent / name).exists():
                os.link(images / f"{number % FILES}.jpg", file.parent / name)
            count = min(CAPTIONS_PER_IMAGE, rows - first)
            corners = random.integers(0, 300, (count, BOXES, 2))
            boxes = np.concatenate([corners, corners + random.integers(20, 180, (count, BOXES, 2))], axis=2)
            for caption, own in zip(random.integers(0, POOL, count), boxes.tolist(), strict=True):
                text, phrases = pool[caption]
                entry = {"image": name, "text": text, "boxes": own, "phrases": phrases}
                lines.write(json.dumps(entry) + "\n")
    file.with_suffix(".new").rename(file)


def measure_epoch(path: Path, arguments: argparse.Namespace) -> None:
    """Check the order of an epoch in all ranks, and measure the workers of one."""
    import torch
    from accelerate.data_loader import prepare_data_loader

    from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
    from mdetr.data.store import Store
    from mdetr.training.build import build_components
    from mdetr.training.datasets import make_sampler
    from mdetr.training.loader import make_loader, start_epoch
    from mdetr.training.recipe_file import parse_recipe
    from mdetr.training.skipping import SkippingDataset, prepare_data

    # Open the store and prepare the data, as for the pre-training of the paper but for the model
    recipe = parse_recipe(
        {
            "seed": 5,
            "model": {"start_from": "photo-tiny"},
            "image": {"shortest_edge": 800, "longest_edge": 1333},
            "data": {
                "train": [{"store": str(path)}],
                "validation": {},
                "examples": "text",
                "augmentation": "published",
            },
            "optimizer": {"batch_size": arguments.batch_size, "epochs": 40},
        }
    )
    me, batch_size = psutil.Process(), arguments.batch_size
    with timed("open the store"):
        store = Store.open(path)
    components = build_components(recipe.model, recipe.image, recipe.data)
    before = memory_of(me)
    with timed("check the texts, prepare the data"):
        mixture = prepare_data(recipe.data, components, recipe.seed).mixture
    with timed("read boxes and sizes for the order"):
        mixture.shape(0)
    print(f"  memory of rank 0 for the data: {memory_of(me) - before:,.0f} MiB", flush=True)
    broken = BrokenExamples(path.parent / BROKEN_FILE)
    ids = store.columns(["id"])["id"].to_numpy(zero_copy_only=False)
    assert len(set(ids)) == len(ids) == len(mixture)

    def loader_of(rank: int) -> tuple[Any, Any]:
        """What `mdetr train` makes in the process of a rank."""
        mixture.set_epoch(EPOCH)
        sampler = make_sampler(mixture, recipe.data, batch_size, recipe.seed, components.resized)
        loader = make_loader(
            SkippingDataset(mixture, broken, components.check),
            sampler,
            components.collator,
            batch_size=batch_size,
            batch_per_process=batch_size // arguments.ranks,
            workers=arguments.workers,
        )
        cpu = torch.device("cpu")
        return prepare_data_loader(loader, cpu, num_processes=arguments.ranks, process_index=rank), sampler

    # Read with real workers, which are forked from this process as from that of a rank
    loader, sampler = loader_of(0)
    read = read_with_workers(start_epoch(loader, sampler, EPOCH), arguments.batches, arguments.workers)
    loader, sampler = loader_of(0)
    batches = islice(start_epoch(loader, sampler, EPOCH).batch_sampler, arguments.batches)
    due = ids[[row for batch in batches for row in batch]].tolist()

    # Measure how long the shapes of an epoch take, from a part of them
    count = min(SHAPES, len(mixture))
    with timed(f"shapes of {count:,} examples"):
        for index in range(count):
            sampler.shape(index)

    # List the rows of each rank, and those after a resume; shapes only decide which of 64 batches a row is
    # in, so that drawn ones serve
    shapes = np.random.default_rng(1).integers(400, 1334, (len(mixture), 2)).tolist()
    steps = len(mixture) // batch_size
    orders, resumed = [], []
    for rank in range(arguments.ranks):
        for done, rows in ((0, orders), (steps // 2, resumed)):
            loader, sampler = loader_of(rank)
            sampler.shape = shapes.__getitem__
            loader = start_epoch(loader, sampler, EPOCH, done, done * batch_size)
            with timed("order of an epoch, without shapes" if not rank and not done else None):
                rows.append(np.fromiter((row for batch in loader.batch_sampler for row in batch), np.int64))

    # Compare them
    counts = np.bincount(np.concatenate(orders), minlength=len(mixture))
    left_out, repeated = int((counts == 0).sum()), int((counts > 1).sum())
    print(
        f"epoch of {len(mixture):,} rows over {arguments.ranks} ranks: {int((counts == 1).sum()):,} came "
        f"once, {repeated} more than once, {left_out} not at all (the incomplete last batch: "
        f"{len(mixture) % batch_size})"
    )
    half = steps // 2 * (batch_size // arguments.ranks)
    same = all(np.array_equal(whole[half:], rest) for whole, rest in zip(orders, resumed, strict=True))
    print(f"after a resume at step {steps // 2:,} of {steps:,}: {'the same rows' if same else 'OTHER ROWS'}")
    print(f"{len(read):,} rows that the workers read: {'those due' if read == due else 'OTHERS'}")
    if repeated or left_out != len(mixture) % batch_size or not same or read != due:
        raise SystemExit(1)


def read_with_workers(loader: Any, batches: int, workers: int) -> list[str]:
    """The ids of the records in some batches of a loader; prints the time and the workers' memory."""
    me, read = psutil.Process(), []
    started = time.perf_counter()
    iterator = iter(loader)
    for number, batch in enumerate(islice(iterator, batches), start=1):
        if number == 1:
            print(f"  first batch after {time.perf_counter() - started:.1f} s", flush=True)
            started = time.perf_counter()
        read += [record.id for record in batch["records"]]
        if number in (workers * 2, batches):
            used = [memory_of(worker) for worker in me.children()]
            print(
                f"  memory after {number} batches: "
                f"{', '.join(f'{one:,.0f}' for one in used)} MiB of the workers, {memory_of(me):,.0f} MiB of "
                "their rank",
                flush=True,
            )
    seconds = time.perf_counter() - started
    cpu = sum(sum(worker.cpu_times()[:2]) for worker in me.children())
    print(
        f"  {len(read) / seconds:.1f} images/s of {workers} workers, processor "
        f"{cpu / len(read) * 1000:.0f} ms an image",
        flush=True,
    )
    return read


@contextmanager
def timed(name: str | None) -> Iterator[None]:
    """Print the time of what is done; wall time, and the processor time of this process."""
    started, cpu = time.perf_counter(), time.process_time()
    yield
    if name:
        cpu = time.process_time() - cpu
        print(f"  {name}: {time.perf_counter() - started:.2f} s, processor {cpu:.2f} s", flush=True)


if __name__ == "__main__":
    main()
