"""Fine-tuning on your own data: a file of JSON Lines in, stores of it, a trained model out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mdetr.cli.evaluate import evaluate
from mdetr.data.store import Store
from mdetr.errors import RecipeError
from mdetr.inference.grounder import Mdetr
from mdetr.training.own_data import import_own_data
from mdetr.training.recipe import load_recipe
from mdetr.training.run import train

FINETUNE = "finetune"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Thirty pictures of a white square on black."""
    lines = []
    for number in range(30):
        picture = Image.new("RGB", (64, 48))
        picture.paste((255, 255, 255), (number, 10, number + 20, 30))
        picture.save(tmp_path / f"{number}.png")
        box = [number, 10, number + 20, 30]
        lines.append(
            {"image": f"{number}.png", "text": "a white square", "boxes": [box], "phrases": ["white square"]}
        )
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def test_one_image_in_ten_is_kept_and_the_others_are_trained_on(mine: Path, tmp_path: Path) -> None:
    recipe = load_recipe(FINETUNE, [f"data={mine}", "model=some/model"])
    assert recipe.model.start_from == "some/model"
    made = import_own_data(recipe, tmp_path / "run")
    train_store = Store.open(made.data.train[0].store)
    (entry,) = made.data.validation.values()
    kept = Store.open(entry.store)
    images = [set(store.image_ids().to_pylist()) for store in (train_store, kept)]
    assert images[0].isdisjoint(images[1])
    assert images[0] | images[1] == {f"{number}.png" for number in range(30)}
    assert 1 <= len(images[1]) <= 8
    assert import_own_data(recipe, tmp_path / "run") == made  # found again, as on --resume


def test_too_few_images_to_keep_any_are_told(mine: Path, tmp_path: Path) -> None:
    mine.write_text(mine.read_text().splitlines()[0])
    recipe = load_recipe(FINETUNE, [f"data={mine}"])
    for _ in range(2):  # what was made for nothing is not taken for whole
        with pytest.raises(RecipeError, match="too few images"):
            import_own_data(recipe, tmp_path / "run")


def test_a_file_that_was_changed_or_has_the_name_of_another_is_read_again(mine: Path, tmp_path: Path) -> None:
    recipe = load_recipe(FINETUNE, [f"data={mine}"])
    before = import_own_data(recipe, tmp_path / "run")
    mine.write_text("\n".join(line.replace("white", "pale") for line in mine.read_text().splitlines()[5:]))
    after = import_own_data(recipe, tmp_path / "run")
    texts = [Store.open(made.data.train[0].store)[0].text for made in (before, after)]
    assert texts == ["a white square", "a pale square"]
    copy = shutil.copytree(tmp_path, tmp_path / "other", ignore=shutil.ignore_patterns("run"))
    other = import_own_data(load_recipe(FINETUNE, [f"data={copy / mine.name}"]), tmp_path / "run")
    assert other.data.train[0].store != after.data.train[0].store


def test_one_command_trains_a_model_that_exists(mine: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    changes = [f"data={mine}", f"model={tiny_model_folder}", "optimiser.epochs=null", "optimiser.steps=2"]
    changes += ["run.workers=0", "data.augmentation=none", "run.pictures=0", "optimiser.batch_size=4"]
    folder = train(load_recipe(FINETUNE, changes), tmp_path / "run")
    found = Mdetr.from_pretrained(folder, device="cpu").ground(
        tmp_path / "3.png", "a white square", threshold=0.0
    )
    assert len(found) > 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    score = metrics["eval_mine_phrase_grounding_recall@1"]
    evaluate(
        [FINETUNE],
        model=str(folder),
        changes=changes[:1],
        json_file=tmp_path / "scores.json",
        output=tmp_path / "evaluation",
        worst=0,
    )
    assert json.loads((tmp_path / "scores.json").read_text())["mine"]["phrase_grounding_recall@1"] == score
    (store,) = (tmp_path / "evaluation" / "stores").iterdir()
    assert store.name.startswith("mine-validation-")
