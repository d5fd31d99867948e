"""Images that break while training: skipped, written down, and too many of them stop the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import write_store
from mdetr.errors import TrainingError
from mdetr.training.datasets import training_data
from mdetr.training.recipe import parse_recipe
from mdetr.training.run import train
from mdetr.training.skipping import SkippingDataset
from tests.training.conftest import SCENES, small_recipe


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of eight images whose files can be broken."""
    folder = Path(shutil.copytree(SCENES, tmp_path / "shapes"))
    write_store(tmp_path / "store", read_clevr(folder, "train"), folder)
    return tmp_path / "store"


def _break(store: Path, *numbers: int) -> None:
    for number in numbers:
        image = store.parent / "shapes" / "images" / "train" / f"CLEVR_train_{number:06d}.png"
        image.write_bytes(image.read_bytes()[:100])


def test_another_example_takes_the_place_of_a_broken_one(store: Path, tmp_path: Path) -> None:
    mixture = training_data(parse_recipe(small_recipe(store)).data, seed=0)
    log = tmp_path / "broken.jsonl"
    dataset = SkippingDataset(mixture, log)
    assert len(dataset) == 8
    _break(store, 7)
    for _ in range(3):
        assert dataset[7].records[0].image_id == "0"  # the next, from the beginning again
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["example"] == 7
    assert "CLEVR_train_000007.png" in json.loads(line)["reason"]
    _break(store, 3)
    with pytest.raises(TrainingError, match=r"2 of 8 examples cannot be read, more than 1%; .*broken\.jsonl"):
        dataset[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_without_one_broken_image_and_stops_at_many(
    store: Path, tmp_path: Path, workers: int
) -> None:
    content = small_recipe(store, workers=workers)
    content["data"]["validation"] = {}
    _break(store, 2)
    train(parse_recipe(content), tmp_path / "run")
    (line,) = (tmp_path / "run" / "broken_examples.jsonl").read_text().splitlines()
    assert json.loads(line)["example"] == 2
    _break(store, 4, 5)
    with pytest.raises(TrainingError, match=r"^\d of 8 examples cannot be read, more than 1%; [^\n]*$"):
        train(parse_recipe(content), tmp_path / "other")
