"""A run killed at any moment resumes from its last checkpoint with the same results."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from mdetr.modeling import MdetrForObjectDetection
from mdetr.training.run_folder import last_checkpoint
from tests.processes import MDETR, Process, run
from tests.small_training import small_recipe


def _losses(run: Path) -> list[float]:
    state = json.loads((last_checkpoint(run) / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_run_that_is_resumed_equals_one_that_was_not(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store, save_every=2)
    content["optimizer"] |= {"steps": 8}
    content["data"]["validation"] = {}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(MDETR, "train", recipe, "--output", whole).returncode == 0
    process = Process(MDETR, "train", recipe, "--output", killed)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint-2" / "complete").exists():
        assert process.returncode is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "model").exists()
    assert run(MDETR, "train", recipe, "--output", killed, "--resume").returncode == 0
    assert _losses(killed) == _losses(whole)
    states = [
        MdetrForObjectDetection.from_pretrained(folder / "model").state_dict() for folder in (whole, killed)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
