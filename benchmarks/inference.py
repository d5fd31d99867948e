"""Times inference by backend and precision, each against float32 in PyTorch without any optimization.

    .venv/bin/python benchmarks/inference.py [--models clevr-tiny photo-tiny r101] [--int8-images FOLDER]

Every row is a process of its own: its start-up time is that of a program that loads the model and grounds
one text, its memory the peak of that process. OpenVINO starts with the graphs that it compiled for an earlier
process. "r101" has the size of the released models at 800 pixels, and
random weights. The last columns are ratios to the first row of the model. Above them is the machine's peak: a
matrix product, and a convolution of a ResNet's third stage.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

DEMO = Path(str(resources.files("mdetr") / "assets" / "demo"))
INPUTS = {
    "clevr-tiny": (DEMO / "shapes.png", "two purple metal balls and a red cube"),
    "photo-tiny": (DEMO / "cat.jpg", "a brown cat and a red car"),
    "r101": (DEMO / "cat.jpg", "a brown cat and a red car"),
}
BATCH = 8
SECONDS = 3.0  # for each measurement, at least
EAGER = {"eager, plain": "float32", "eager": "float32", "eager bf16": "bfloat16"}
EXPORTS = {
    "onnx": ("onnx", "fp32"),
    "openvino": ("openvino", "fp32"),
    "openvino int8": ("openvino", "int8"),
}


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    parser.add_argument(
        "--int8-images", type=Path, default=DEMO, help="a few dozen images for the calibration of int8"
    )
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)  # what a process of a row measures
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(*arguments.row)))
        return
    print_peak()
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            print_table(name, Path(folder), arguments.int8_images)


def print_peak() -> None:
    """Print what the machine does at most, in billions of operations per second."""
    import torch

    matrix = torch.rand(2048, 2048)
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1).eval()
    features = torch.rand(1, 256, 50, 67)
    with torch.inference_mode():
        product = median_seconds(lambda: matrix @ matrix)
        convolved = median_seconds(lambda: convolution(features))
    print(
        f"{torch.get_num_threads()} threads; a matrix product {2 * 2048**3 / product / 1e9:.0f} GFLOP/s, a "
        f"convolution {2 * 256 * 256 * 9 * 50 * 67 / convolved / 1e9:.0f} GFLOP/s"
    )


def print_table(name: str, folder: Path, int8_images: Path) -> None:
    """Measure a model in all ways, and print a row for each."""
    import torch

    columns = f"{'first text':>12}{'second':>10}{'images/s':>10}{'memory':>10}{'start':>8}{'size':>9}"
    print(f"\n{name:<16}{columns}{'boxes':>10}   ratios: first, second, images/s")
    source = name if name != "r101" else str(make_r101(folder / "r101"))
    os.environ["MDETR_HOME"] = str(folder / "home")  # the cache of compiled graphs
    baseline: dict[str, Any] = {}
    for way, dtype in EAGER.items():
        if dtype == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            continue
        row = run_row(name, source, way)
        baseline = baseline or row
        print_row(way, row, baseline)
    for way, (export_format, precision) in EXPORTS.items():
        target = folder / way.replace(" ", "-")
        command = ["export", source, str(target), "--format", export_format, "--precision", precision]
        if precision == "int8":
            command += ["--calibrate", str(int8_images)]
        subprocess.run([sys.executable, "-m", "mdetr", *command], check=True, stdout=subprocess.DEVNULL)
        ground = ["ground", str(INPUTS[name][0]), INPUTS[name][1], "--model", str(target)]
        subprocess.run([sys.executable, "-m", "mdetr", *ground], check=True, stdout=subprocess.DEVNULL)
        print_row(way, run_row(name, str(target), way), baseline)


def make_r101(folder: Path) -> Path:
    """Write a model of the released size with random weights, and a processor of 800 pixels."""
    import torch

    from mdetr import Mdetr, MdetrConfig, MdetrForObjectDetection

    torch.manual_seed(0)
    processor = Mdetr.from_pretrained("clevr-tiny", device="cpu").processor
    processor.image_processor.size = {"shortest_edge": 800, "longest_edge": 1333}
    Mdetr(MdetrForObjectDetection(MdetrConfig()).eval(), processor).save_pretrained(folder)
    return folder


def run_row(name: str, source: str, way: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--row", name, source, way]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return row


def measure(name: str, source: str, way: str) -> dict[str, Any]:
    """Measure one way to run a model, in this process.

    Args:
        name: Name of the model.
        source: The same, or the folder of an exported one.
        way: A key of `EAGER` or `EXPORTS`.

    Returns:
        Milliseconds, images per second, MiB, seconds, and the boxes of the 10 best candidates in fractions.
    """
    # Start up, as a program does that grounds one text
    start = time.perf_counter()
    from mdetr import Mdetr

    image, text = INPUTS[name]
    model = Mdetr.from_pretrained(source, device="cpu", dtype=EAGER.get(way, "float32"))
    if way == "eager, plain":
        model.model.backbone.folds_norms = False  # type: ignore[attr-defined]
    result = model.ground(str(image), text, threshold=0)
    seconds = time.perf_counter() - start

    # Measure in the warm process
    encoded = model.encode_image(str(image))
    first = median_seconds(lambda: model.ground(str(image), text))
    second = median_seconds(lambda: model.ground(encoded, text))
    images, texts = [str(image)] * BATCH, [text] * BATCH
    batch = median_seconds(lambda: list(model.ground_batch(images, texts, batch_size=BATCH)))
    best = result.detections[(-result.detections.scores).argsort()[:10]]
    shape = result.to_dict()
    scale = max(shape["width"], shape["height"])
    return {
        "first": 1000 * first,
        "second": 1000 * second,
        "throughput": BATCH / batch,
        "memory": peak_memory(),
        "start": seconds,
        "size": size_of(source),
        "boxes": (best.boxes_xyxy / scale).tolist(),
    }


def peak_memory() -> float:
    """Return the largest resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, the other figure is at least that of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def median_seconds(call: Callable[[], object]) -> float:
    """Return the median time of a call, after one to warm up."""
    call()
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def size_of(source: str) -> float:
    """Return the size of a model's files in MB."""
    from mdetr.checkpoints.finding import find_model

    return sum(file.stat().st_size for file in Path(find_model(source)).iterdir()) / 1e6


def print_row(way: str, row: dict[str, Any], baseline: dict[str, Any]) -> None:
    """Print what was measured, and the ratios to the baseline."""
    # Compare each box with the nearest one of the baseline, since the order of candidates may differ
    distances = [
        min(max(abs(a - b) for a, b in zip(box, other, strict=True)) for other in baseline["boxes"])
        for box in row["boxes"]
    ]
    print(
        f"{way:<16}{row['first']:>9.1f} ms{row['second']:>7.1f} ms{row['throughput']:>10.1f}"
        f"{row['memory']:>6.0f} MiB{row['start']:>6.1f} s{row['size']:>6.1f} MB{max(distances):>10.1e}   "
        f"{baseline['first'] / row['first']:.2f}, {baseline['second'] / row['second']:.2f}, "
        f"{row['throughput'] / baseline['throughput']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
