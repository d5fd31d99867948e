"""The same seed gives the same run, and another seed another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mdetr.modeling import MdetrForObjectDetection
from mdetr.training.recipe_file import parse_recipe
from mdetr.training.run import train
from tests.small_training import small_recipe

pytestmark = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="A GPU adds numbers in an order that changes."
)

# All that draws random numbers: dropout, noise, the order of examples, crops, colors, and the first weights
RANDOM = {
    "dropout": 0.1,
    "backbone_norm": "frozen",
    "denoising_groups": 2,
    "one_to_many_queries": 10,
    "look_forward_twice": True,
    "iou_aware_tokens": True,
}


def weights_after_training(store: Path, folder: Path, **run: Any) -> dict[str, torch.Tensor]:
    content = small_recipe(store)
    content["seed"] = run.pop("seed", 3)
    content["model"]["config"] |= RANDOM
    content["data"] |= {"validation": {}, "augmentation": {"height": 96, "width": 144, "jitter": 0.2}}
    content["optimizer"]["steps"] = 3
    content["run"] |= run
    train(parse_recipe(content), folder)
    return MdetrForObjectDetection.from_pretrained(folder / "model").state_dict()


@pytest.fixture(scope="module")
def first_run(shapes_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights_after_training(shapes_store, tmp_path_factory.mktemp("first") / "run", workers=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(
    first_run: dict, shapes_store: Path, tmp_path: Path, workers: int
) -> None:
    again = weights_after_training(shapes_store, tmp_path / "run", workers=workers)
    assert first_run.keys() == again.keys()
    assert [name for name in again if not torch.equal(first_run[name], again[name])] == []


def test_another_seed_gives_other_weights(first_run: dict, shapes_store: Path, tmp_path: Path) -> None:
    other = weights_after_training(shapes_store, tmp_path / "run", workers=0, seed=4)
    changed = [name for name in other if not torch.equal(first_run[name], other[name])]
    assert "decoder.0.self_attention.in_proj_weight" in changed
