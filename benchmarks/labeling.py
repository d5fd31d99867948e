"""Throughput of `mdetr label` by engine and number of workers, as a ratio to one process.

    python benchmarks/labeling.py [--images 640] [--model photo-tiny]

Images are noise of 640 x 480 pixels, written to a temporary folder. Every worker runs one thread. The time of
a run counts from the moment when each worker has finished a part, without the start of processes and
the loading of the model; the time of the first results is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

IMAGES_PER_PART = 64
CLASSES = "cat, dog, person, car"


@dataclass(frozen=True)
class Run:
    """Seconds until the first part was done, and images per second of all workers."""

    start: float
    throughput: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--model", default="photo-tiny")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        for number in range(arguments.images):
            Image.effect_noise((640, 480), 60).convert("RGB").save(root / "photos" / f"{number}.jpg")

        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mdetr"]
        plain = ["-m", "mdetr"]
        runs = (
            ("1 process", 1, plain, []),
            ("torchrun, 2 processes", 2, torchrun, []),
            ("ray, 1 worker", 1, plain, ["--engine", "ray", "--workers", "1"]),
            ("ray, 2 workers", 2, plain, ["--engine", "ray", "--workers", "2"]),
        )
        base = None
        for name, workers, program, options in runs:
            call = [*program, "label", str(root / "photos"), str(root / name), "--classes", CLASSES]
            call += ["--model", arguments.model, *options]
            run = measure(call, root / name, arguments.images, workers)
            base = base or run
            ratio = run.throughput / base.throughput
            print(f"{name:24}{run.throughput:6.1f} images/s  ratio {ratio:4.2f}  start {run.start:5.1f} s")


def measure(call: Sequence[str], output: Path, num_images: int, workers: int) -> Run:
    """Run a command, and watch its results."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    parts = -(-num_images // IMAGES_PER_PART)
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, *call], env=environment, stdout=subprocess.DEVNULL)
    times: list[float] = []
    while len(times) < parts and process.poll() is None:
        done = len(list((output / "results").glob("0*.parquet")))
        times += [time.monotonic()] * (done - len(times))
        time.sleep(0.02)
    if process.wait():
        sys.exit("The run failed.")
    seconds = times[-1] - times[workers - 1]
    return Run(times[0] - begin, (num_images - workers * IMAGES_PER_PART) / seconds)


if __name__ == "__main__":
    main()
