"""How soon the command answers: CPU seconds of a call, against Python's own start and against loading torch.

The model is exported first, which takes a minute. Its first call for OpenVINO compiles the graphs, the others
load them.

Prints the least of several runs, user and system time of all processes together, and its ratios to those of
`python -c pass` and of `python -c "import torch"`; and which of the packages that a model does not need
transformers loads with its base class, and which `mdetr ground` loads besides.
Run: python benchmarks/startup.py [RUNS]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

DEMO = resources.files("mdetr") / "assets" / "demo" / "shapes.png"
CALLS = {
    "python -c pass": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "from transformers import PreTrainedModel": ("-c", "from transformers import PreTrainedModel"),
    "import mdetr": ("-c", "import mdetr"),
    "mdetr --version": ("-m", "mdetr", "--version"),
    "mdetr --help": ("-m", "mdetr", "--help"),
    "mdetr train --help": ("-m", "mdetr", "train", "--help"),
    "mdetr ground, a wrong path": ("-m", "mdetr", "ground", "nowhere.png", "a red cube"),
    "mdetr ground, one image": ("-m", "mdetr", "ground", str(DEMO), "a red cube"),
}


UNNEEDED = (
    *("torch._dynamo", "torch._inductor", "sympy", "torchvision.datasets", "scipy"),
    *("sklearn", "pandas", "matplotlib", "pyarrow", "tensorboard"),
)
LOADED = """
import contextlib, io, sys
from transformers import PreTrainedModel
given = set(sys.modules)
from mdetr.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["ground", {demo!r}, "a red cube", "--model", "clevr-tiny"])
for loaded in (given, set(sys.modules) - given):
    print(", ".join(name for name in {unneeded!r} if name in loaded) or "none")
"""


def cpu_seconds(arguments: tuple[str, ...], runs: int) -> float:
    """The least CPU time of some runs of Python with `arguments`."""
    times = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def export(folder: Path) -> dict[str, tuple[str, ...]]:
    """Export clevr-tiny, and return the call of each format."""
    calls = {}
    for name in ("onnx", "openvino"):
        command = ("-m", "mdetr", "export", "clevr-tiny", str(folder / name), "--format", name)
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        call = ("-m", "mdetr", "ground", str(DEMO), "a red cube", "--model", str(folder / name))
        calls[f"mdetr ground, exported for {name}"] = call
    return calls


def main() -> None:
    """Time each call and print a table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MDETR_HOME"] = str(Path(folder) / "home")
        calls = CALLS | export(Path(folder))
        measured = {name: cpu_seconds(arguments, runs) for name, arguments in calls.items()}
    print(f"{'call':42} {'CPU s':>7} {'/ pass':>8} {'/ torch':>8}")
    for name, seconds in measured.items():
        to_pass, to_torch = seconds / measured["python -c pass"], seconds / measured["import torch"]
        print(f"{name:42} {seconds:7.2f} {to_pass:8.1f} {to_torch:8.2f}")
    program = LOADED.format(demo=str(DEMO), unneeded=UNNEEDED)
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    by_transformers, besides = loaded.stdout.splitlines()
    print(f"unneeded, loaded with transformers' PreTrainedModel: {by_transformers}")
    print(f"unneeded, loaded besides by mdetr ground, one image: {besides}")


if __name__ == "__main__":
    main()
