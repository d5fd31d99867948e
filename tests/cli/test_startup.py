"""What is not loaded before it is needed: help, completion and a wrong call are answered at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import SHAPES

PICTURE = str(SHAPES / "CLEVR_train_000000.png")
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
    assert run.stdout.split() == ["clevr-questions", "clevr-medium", "clevr-humans", "clevr-ref+"]
    assert not packages & SLOW
