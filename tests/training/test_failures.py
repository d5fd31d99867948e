"""What stops a run from outside, with real processes: each dies with one sentence that says what to do."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mdetr.errors import TrainingError
from mdetr.training.failures import explained
from mdetr.training.trainer import last_checkpoint
from tests.training.conftest import small_recipe

PATIENCE = 120  # seconds that anything here may take


def _start(
    store: Path, folder: Path, *, environment: dict[str, str] | None = None, **run: Any
) -> subprocess.Popen[str]:
    """A run that would go on for long; its folder is `folder`/run."""
    content = small_recipe(store, save_every=2, log_every=1000, **run)
    content["optimiser"] |= {"steps": 100_000, "batch_size": 4}
    content["data"]["validation"] = {}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "mdetr", "train", str(recipe), "--output", str(folder / "run")]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", **(environment or {})},
    )


def _wait_for_a_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not list((folder / "run").glob("checkpoint-*/complete")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _last_words(process: subprocess.Popen[str]) -> str:
    """The sentence that a process died with."""
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    return next(line for line in reversed(errors.splitlines()) if line.startswith("mdetr: "))


def test_a_worker_that_is_killed(shapes_store: Path, tmp_path: Path) -> None:
    process = _start(shapes_store, tmp_path, workers=1)
    _wait_for_a_checkpoint(process, tmp_path)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
    assert children.split()
    for child in children.split():
        os.kill(int(child), signal.SIGKILL)
    words = _last_words(process)
    assert "A process that reads data died" in words
    assert "--resume" in words
    assert last_checkpoint(tmp_path / "run")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits a process from outside")
def test_a_disk_that_is_full_in_the_middle_of_a_run(shapes_store: Path, tmp_path: Path) -> None:
    process = _start(shapes_store, tmp_path)
    _wait_for_a_checkpoint(process, tmp_path)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))  # no larger file can be written
    words = _last_words(process)
    assert "could not be written" in words
    assert "make room on the disk" in words
    kept = last_checkpoint(tmp_path / "run")
    assert (kept / "model.safetensors").stat().st_size > 100_000
    assert [
        path.name for path in (tmp_path / "run").glob("checkpoint-*") if not (path / "complete").exists()
    ] == []


@pytest.mark.parametrize("limit", [100_000, 2_200_000])  # before the weights, and before the moments
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits a process from outside")
def test_whichever_file_does_not_fit(shapes_store: Path, tmp_path: Path, limit: int) -> None:
    process = _start(shapes_store, tmp_path)
    _wait_for_a_checkpoint(process, tmp_path)
    kept = last_checkpoint(tmp_path / "run")
    assert (kept / "model.safetensors").stat().st_size < 2_200_000 < (kept / "optimizer.pt").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    assert "could not be written" in _last_words(process)


def test_a_process_that_hangs(shapes_store: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "true",
    }
    processes = [
        _start(
            shapes_store,
            tmp_path,
            environment={**address, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            timeout=0.25,
        )
        for rank in range(2)
    ]
    try:
        _wait_for_a_checkpoint(processes[0], tmp_path)
        processes[1].send_signal(signal.SIGSTOP)
        words = _last_words(processes[0])
    finally:
        processes[1].kill()
        processes[1].communicate()
    assert "did not answer for 0.25 minutes (run.timeout)" in words
    assert last_checkpoint(tmp_path / "run")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else") as caught, explained(1):
        raise RuntimeError("something else")
    assert not isinstance(caught.value, TrainingError)
    with pytest.raises(TrainingError, match=r"GPU's memory is full: .*run.precision=bf16"), explained(1):
        raise torch.OutOfMemoryError("CUDA out of memory")
