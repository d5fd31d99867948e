"""Failures from outside, with real processes: each ends with one sentence that names the remedy."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import write_store
from mdetr.errors import TrainingError
from mdetr.training.run import explained
from mdetr.training.run_folder import last_checkpoint
from tests.processes import MDETR, Process
from tests.small_training import SCENES, small_recipe

PATIENCE = 120  # seconds that anything here may take


Start = Callable[..., Process]


@pytest.fixture
def start(shapes_store: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts runs that would go on for long, in the folder `tmp_path`/run; none outlives its test."""
    processes: list[Process] = []

    def start_one(
        environment: dict[str, str] | None = None, store: Path = shapes_store, **run: Any
    ) -> Process:
        content = small_recipe(store, save_every=2, log_every=1000, **run)
        content["optimizer"] |= {"steps": 100_000, "batch_size": 4}
        content["data"]["validation"] = {}
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(content))
        process = Process(MDETR, "train", recipe, "--output", tmp_path / "run", environment=environment)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()


def _wait_for_a_checkpoint(process: Process, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not list((folder / "run").glob("checkpoint-*/complete")):
        assert process.returncode is None, "it ended before it had made a checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _last_words(process: Process) -> str:
    """The sentence that a process died with."""
    assert process.wait() == 1, process.errors
    assert "Traceback" not in process.errors
    return next(line for line in reversed(process.errors.splitlines()) if line.startswith("mdetr: "))


def test_a_worker_that_is_killed(start: Start, tmp_path: Path) -> None:
    process = start(workers=1)
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
@pytest.mark.parametrize("first_not_to_fit", ["model.safetensors", "optimizer.pt"])
def test_a_disk_that_is_full_in_the_middle_of_a_run(
    start: Start, tmp_path: Path, first_not_to_fit: str
) -> None:
    process = start()
    _wait_for_a_checkpoint(process, tmp_path)
    limit = (last_checkpoint(tmp_path / "run") / first_not_to_fit).stat().st_size - 1
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))  # no larger file can be written
    words = _last_words(process)
    assert "could not be written" in words
    assert "make room on the disk" in words
    kept = last_checkpoint(tmp_path / "run")
    assert (kept / first_not_to_fit).stat().st_size == limit + 1
    assert [
        path.name for path in (tmp_path / "run").glob("checkpoint-*") if not (path / "complete").exists()
    ] == []


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_one_of_two_processes_that_hangs_or_dies(start: Start, tmp_path: Path, number: int) -> None:
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
        start({**address, "RANK": str(rank), "LOCAL_RANK": str(rank)}, timeout=0.25) for rank in range(2)
    ]
    _wait_for_a_checkpoint(processes[0], tmp_path)
    processes[1].send_signal(number)
    started = time.monotonic()
    words = _last_words(processes[0])
    assert time.monotonic() - started < PATIENCE
    assert "died, or did not respond for 0.25 minutes (run.timeout)" in words
    assert last_checkpoint(tmp_path / "run")


def test_a_store_and_its_images_that_are_deleted_while_they_are_read(start: Start, tmp_path: Path) -> None:
    images, path = tmp_path / "images", tmp_path / "store"
    shutil.copytree(SCENES, images)
    write_store(path, read_clevr(images, "train"), images)
    process = start(store=path)
    _wait_for_a_checkpoint(process, tmp_path)
    for folder in (path, images):
        folder.rename(folder.with_suffix(".away"))
    words = _last_words(process)
    assert "cannot be read" in words and "broken_examples.jsonl" in words

    # Once they are back, the run goes on
    for folder in (path, images):
        folder.with_suffix(".away").rename(folder)
    done = int(last_checkpoint(tmp_path / "run").name.removeprefix("checkpoint-"))
    resumed = Process(
        *(MDETR, "train", tmp_path / "recipe.yaml", "--output", tmp_path / "run", "--resume"),
        *("--set", f"optimizer.steps={done + 2}"),
    )
    assert resumed.wait() == 0, resumed.errors


def test_other_errors_are_unchanged() -> None:
    with pytest.raises(RuntimeError, match="something else") as caught, explained(1):
        raise RuntimeError("something else")
    assert not isinstance(caught.value, TrainingError)
    with pytest.raises(TrainingError, match=r"GPU's memory is full: .*run.precision=bf16"), explained(1):
        raise torch.OutOfMemoryError("CUDA out of memory")
