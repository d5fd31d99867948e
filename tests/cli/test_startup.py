"""What is not loaded before it is needed: help, completion and a wrong call are answered at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mdetr
from tests.cli.conftest import SHAPES

PICTURE = str(SHAPES / "CLEVR_train_000000.png")
DEMO = Path(mdetr.__file__).parent / "assets" / "demo" / "shapes.png"
SLOW = {"torch", "transformers", "timm", "pyarrow", "matplotlib", "scipy"}


def _run(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """What Python does with its arguments, and the packages that it imports meanwhile."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    modules = [line.rpartition("|")[2].strip() for line in lines]
    return run, {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (("-c", "import mdetr"), 0, ""),
        (("-m", "mdetr", "--help"), 0, "Find the things that a text"),
        (("-m", "mdetr", "train", "--help"), 0, "--dry-run"),
        (("-m", "mdetr", "data", "import", "--help"), 0, "visual-genome"),
        (("-m", "mdetr", "data", "check", "nowhere.jsonl"), 1, "There is no file or store nowhere.jsonl"),
        (("-m", "mdetr", "ground", "--modle", "x"), 2, "No such option: --modle"),
        (("-m", "mdetr", "ground", "nowhere.png", "a cube"), 1, "There is no image at nowhere.png"),
        (("-m", "mdetr", "convert", "nowhere.pth", "model"), 1, "There is no file nowhere.pth"),
        (("-m", "mdetr", "models"), 0, "pretrained-r101"),
        (("-m", "mdetr", "download", "gqa-r10"), 1, "did you mean gqa-r101?"),
        (("-m", "mdetr", "train", "nowhere.yaml"), 1, "There is no recipe nowhere.yaml"),
        (
            ("-m", "mdetr", "train", "finetune", "--set", f"data={SHAPES}", "--output", PICTURE),
            1,
            "is a file",
        ),
        (("-m", "mdetr", "train", "finetune", "--set", f"data={SHAPES}", "--resume"), 1, "no checkpoint in"),
        (("-m", "mdetr", "answer", PICTURE, "Why?", "--model", "photo-tiny"), 1, "no head that answers"),
        (("-m", "mdetr", "recipes"), 0, "finetune"),
    ],
    ids=[
        "import",
        "help",
        "help-of-train",
        "help-of-import",
        "data",
        "option",
        "image",
        "checkpoint",
        "models",
        "download",
        "recipe",
        "output",
        "resume",
        "head",
        "recipes",
    ],
)
def test_what_needs_no_model_loads_nothing_slow(arguments: tuple[str, ...], code: int, output: str) -> None:
    run, packages = _run(*arguments)
    assert run.returncode == code
    assert output in run.stdout + run.stderr
    assert "mdetr" in packages
    assert not packages & SLOW


def test_the_shell_completes_names_and_loads_nothing_slow() -> None:
    run, packages = _run(
        "-m", "mdetr", _MDETR_COMPLETE="complete_bash", COMP_WORDS="mdetr data import clevr-", COMP_CWORD="3"
    )
    texts = ["clevr-captions", "clevr-expressions", "clevr-questions"]
    assert run.stdout.split() == [*texts, "clevr-medium", "clevr-humans", "clevr-ref+"]
    assert not packages & SLOW


UNNEEDED = {
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "torchvision.datasets",
    "scipy",
    "sklearn",
    "pandas",
} | {*("matplotlib", "pyarrow", "tensorboard", "jinja2", "accelerate", "torch.utils.tensorboard")}


def test_grounding_an_image_loads_nothing_unneeded_beside_what_transformers_loads() -> None:
    program = (
        "import sys; from transformers import PreTrainedModel; given = set(sys.modules);"
        "from mdetr.cli.main import main; assert main(sys.argv[1:]) == 0;"
        "print(*set(sys.modules) - given)"
    )
    call = ("ground", str(DEMO), "a red cube", "--model", "clevr-tiny")
    run = subprocess.run([sys.executable, "-c", program, *call], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.splitlines()[-1].split())
    assert "timm" in loaded and "mdetr.model.backbone" in loaded
    assert not loaded & UNNEEDED
