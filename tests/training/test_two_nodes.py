"""Two nodes: as many launchers, which find each other at an address, and one run of all their processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mdetr.training.run_folder import last_checkpoint
from tests.processes import MDETR, run_together
from tests.small_training import small_recipe

PATIENCE = 600  # seconds; a launcher and what it starts import torch one after the other


def _losses(run: Path) -> list[float]:
    log = json.loads((last_checkpoint(run) / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


def test_two_launchers_with_a_process_each_train_as_one_with_two(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["optimizer"] |= {"steps": 3}
    content["data"]["validation"] = {}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    run_together(2, MDETR, "train", recipe, "--output", tmp_path / "one")

    # As docs/training.md says, on each of the nodes, which share the folder of the run
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    train = ["-m", "mdetr", "train", str(recipe), "--output", str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    processes = []
    for rank in range(2):
        output = (tmp_path / f"node{rank}.txt").open("w")
        processes.append(
            subprocess.Popen([*launcher, *nodes, *train], env=environment, stdout=output, stderr=output)
        )
    try:
        codes = [process.wait(PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], "\n".join((tmp_path / f"node{rank}.txt").read_text()[-3000:] for rank in range(2))

    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), rel=1e-6)
    assert len(_losses(tmp_path / "two")) == 3
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
