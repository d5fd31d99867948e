"""Two real processes train the same parameters as one, replicated or sharded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mdetr.modeling import MdetrForObjectDetection
from mdetr.training.run_folder import last_checkpoint
from tests.processes import MDETR, run_together
from tests.small_training import small_recipe

IN_FLOAT64 = Path(__file__).with_name("in_float64.py")


@pytest.fixture
def content(shapes_store: Path) -> dict[str, Any]:
    content = small_recipe(shapes_store, save_every=10)
    content["model"]["config"] |= {"alignment_size": 0}  # its negatives depend on the padding of each batch
    content["data"] |= {"validation": {}, "texts_per_image": 2}
    content["optimizer"] |= {"steps": 20, "batch_size": 4}
    return content


def _train(
    content: dict[str, Any], folder: Path, processes: int, *options: object
) -> dict[str, torch.Tensor]:
    """The weights that the recipe ends with, in float64."""
    folder.mkdir(exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    run_together(processes, IN_FLOAT64, "train", recipe, "--output", folder / "run", *options)
    return MdetrForObjectDetection.from_pretrained(folder / "run" / "model", dtype=torch.float64).state_dict()


def test_one_two_and_two_sharded_processes_end_with_the_same_parameters(
    content: dict[str, Any], tmp_path: Path
) -> None:
    alone = _train(content, tmp_path / "alone", 1)
    start = MdetrForObjectDetection.from_pretrained(
        tmp_path / "alone" / "run" / "checkpoint-10", dtype=torch.float64
    )
    moved = [
        (alone[n] - t).abs().max().item() for n, t in start.state_dict().items() if t.is_floating_point()
    ]
    assert max(moved) > 1e-3  # there is something to be compared
    for sharding in ("none", "fsdp"):
        content["run"]["sharding"] = sharding
        together = _train(content, tmp_path / sharding, 2)
        assert set(together) == set(alone)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=0, atol=1e-7, msg=f"{sharding}: {name}")


def test_a_sharded_run_resumes_in_the_middle_of_its_second_epoch(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["run"] |= {"sharding": "fsdp", "save_every": 3}
    content["optimizer"] |= {"steps": 4}  # of two to an epoch
    whole = _train(content, tmp_path / "whole", 2)
    stopped = tmp_path / "whole"
    shutil.rmtree(stopped / "run" / "checkpoint-4")
    resumed = _train(content, stopped, 2, "--resume")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=1e-12, msg=name)


def test_sharding_works_with_bfloat16(content: dict[str, Any], tmp_path: Path) -> None:
    content["run"] |= {"precision": "bf16", "save_every": 2}
    content["optimizer"] |= {"steps": 2}
    losses = []
    for sharding in ("none", "fsdp"):
        content["run"]["sharding"] = sharding
        recipe = tmp_path / f"{sharding}.yaml"
        recipe.write_text(yaml.safe_dump(content))
        run_together(2, MDETR, "train", recipe, "--output", tmp_path / sharding)
        log = json.loads((last_checkpoint(tmp_path / sharding) / "trainer_state.json").read_text())[
            "log_history"
        ]
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
