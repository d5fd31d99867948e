"""Measures the peak memory and the time of queries, each in a process of its own, on the CPU.

    .venv/bin/python benchmarks/memory.py

The released architecture has random weights: they take the same memory and time as the trained ones.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from importlib import resources

import numpy as np
import torch

from mdetr import Mdetr, MdetrConfig, MdetrForObjectDetection, MdetrImageProcessor, MdetrProcessor
from mdetr.processing.processor import roberta_tokenizer

PHOTO = str(resources.files("mdetr") / "assets" / "demo" / "cat.jpg")
NAMES = [f"thing {number}" for number in range(400)]
CASES = (
    ("import mdetr, load photo-tiny", "photo-tiny", "float32", 0),
    ("photo-tiny, one name", "photo-tiny", "float32", 1),
    ("photo-tiny, 20 names", "photo-tiny", "float32", 20),
    ("photo-tiny, 400 names", "photo-tiny", "float32", 400),
    ("photo-tiny, 400 names, bfloat16", "photo-tiny", "bfloat16", 400),
    ("released architecture, loaded", "released", "float32", 0),
    ("released architecture, one text", "released", "float32", 1),
    ("released architecture, one text, bfloat16", "released", "bfloat16", 1),
)


def load(name: str, dtype: torch.dtype) -> Mdetr:
    """Load a model by name, or make the released architecture with random weights."""
    if name != "released":
        return Mdetr.from_pretrained(name, device="cpu", dtype=dtype)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    model = MdetrForObjectDetection(MdetrConfig()).eval()
    torch.set_default_dtype(default)
    return Mdetr(model, MdetrProcessor(MdetrImageProcessor(), roberta_tokenizer()))


def measure(name: str, dtype: str, num_names: int) -> dict[str, float]:
    """Peak memory of this process in MiB, and the seconds of a query in a warm process."""
    model = load(name, getattr(torch, dtype))
    seconds = 0.0
    if num_names:
        photo: object = PHOTO
        if name == "released":
            photo = np.random.default_rng(0).integers(0, 255, (800, 1333, 3), dtype=np.uint8)
        model.detect(photo, NAMES[:1])
        start = time.perf_counter()
        model.detect(photo, NAMES[:num_names])
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mebibytes": peak / (2**20 if sys.platform == "darwin" else 2**10), "seconds": seconds}


def main() -> None:
    """Print a row for each case."""
    if len(sys.argv) > 1:
        name, dtype, num_names = sys.argv[1:]
        print(json.dumps(measure(name, dtype, int(num_names))))
        return
    print(f"{'case':<44}{'peak memory':>12}{'time':>10}")
    for title, name, dtype, num_names in CASES:
        command = [sys.executable, __file__, name, dtype, str(num_names)]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{title:<44}{result['mebibytes']:>8.0f} MiB{result['seconds']:>8.2f} s")


if __name__ == "__main__":
    main()
