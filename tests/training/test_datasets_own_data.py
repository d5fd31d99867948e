"""Fine-tuning on JSON Lines files: conversion to stores, images held out, a whole run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mdetr.cli.evaluate import evaluate
from mdetr.data.held_out import TrainStore, ValidationStore, open_store
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidRecordError, RecipeError
from mdetr.inference.grounder import Mdetr
from mdetr.training.datasets import check_shared_images, import_own_data
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import load_recipe, parse_recipe, to_yaml
from mdetr.training.run import train
from mdetr.training.run_folder import last_checkpoint

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


def _images(entry: TrainStore | ValidationStore) -> set[str]:
    return set(open_store(entry).image_ids().to_pylist())


def _imported(recipe: Recipe, folder: Path) -> Recipe:
    return replace(recipe, data=import_own_data(recipe.data, folder))


def _parts(recipe: Recipe) -> tuple[set[str], set[str]]:
    (validation,) = recipe.data.validation.values()
    return _images(recipe.data.train[0]), _images(validation)


@pytest.mark.parametrize("kind", ["file", "store"])
def test_one_image_in_ten_is_held_out_and_the_others_are_trained_on(
    mine: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "store":
        write_store(tmp_path / "store", read_json_lines(mine, "all"), mine.parent)
    path = mine if kind == "file" else tmp_path / "store"
    recipe = load_recipe(FINETUNE, [f"data={path}", "model=some/model"])
    assert recipe.model.start_from == "some/model"
    made = _imported(recipe, tmp_path / "run")
    trained_on, kept = _parts(made)
    assert trained_on.isdisjoint(kept)
    assert trained_on | kept == {f"{number}.png" for number in range(30)}
    assert kept == {"12.png"}  # by their names alone, whatever the kind
    check_shared_images(made.data)
    assert _imported(recipe, tmp_path / "run") == made  # the same stores, as on --resume
    again = parse_recipe(yaml.safe_load(to_yaml(made)))  # as a run's folder keeps it
    assert _parts(_imported(again, tmp_path / "other")) == (trained_on, kept)


def test_of_few_images_one_is_held_out_and_a_single_image_is_refused(mine: Path, tmp_path: Path) -> None:
    lines = mine.read_text().splitlines()
    for first in range(1, 9):  # none of these pairs has an image that the rule for many would keep
        mine.write_text("\n".join(lines[first : first + 2]))
        made = _imported(load_recipe(FINETUNE, [f"data={mine}"]), tmp_path / "run")
        assert [len(part) for part in _parts(made)] == [1, 1]
    mine.write_text(lines[0])
    recipe = load_recipe(FINETUNE, [f"data={mine}"])
    for _ in range(2):
        made = _imported(recipe, tmp_path / "run")
        with pytest.raises(RecipeError, match="too few images to keep one in 10"):
            open_store(made.data.train[0])


@pytest.mark.parametrize("embedded", [False, True])
def test_stores_with_a_common_image_are_refused_unless_allowed(
    mine: Path, tmp_path: Path, embedded: bool
) -> None:
    records = list(read_json_lines(mine, "all"))
    if embedded:
        records = [replace(r, image=(mine.parent / str(r.image)).read_bytes()) for r in records]
    root = None if embedded else mine.parent
    one, other = (
        [replace(r, source="one") for r in records[:20]],
        [replace(r, source="other") for r in records],
    )
    write_store(tmp_path / "one", one, root)
    write_store(tmp_path / "apart", other[20:], root)
    write_store(tmp_path / "other", other[19:], root)

    def recipe(validation: str, *changes: str) -> Recipe:
        stores = [f"data={tmp_path / 'one'}", f"data.validation.mine.store={tmp_path / validation}"]
        return _imported(load_recipe(FINETUNE, [*stores, *changes]), tmp_path / "run")

    check_shared_images(recipe("apart").data)
    with pytest.raises(RecipeError, match=r"share 1 image, such as \S*19\.png, .*allow_shared_images=true"):
        check_shared_images(recipe("other").data)
    check_shared_images(recipe("other", "data.allow_shared_images=true").data)


def test_equal_ids_of_different_images_are_allowed(mine: Path, tmp_path: Path) -> None:
    records = list(read_json_lines(mine, "all"))
    embedded = [
        replace(r, image=(mine.parent / str(r.image)).read_bytes(), image_id=str(n))
        for n, r in enumerate(records)
    ]
    write_store(tmp_path / "one", embedded[:15], None)
    write_store(tmp_path / "other", [replace(r, image_id=str(n)) for n, r in enumerate(embedded[15:])], None)
    stores = [f"data={tmp_path / 'one'}", f"data.validation.mine.store={tmp_path / 'other'}"]
    check_shared_images(load_recipe(FINETUNE, stores).data)


def test_training_takes_fewer_examples_than_a_batch(
    mine: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    mine.write_text("\n".join(mine.read_text().splitlines()[:4]))  # three and one for validation, by eights
    changes = [f"data={mine}", f"model={tiny_model_folder}", "run.workers=0", "run.pictures=0"]
    folder = train(load_recipe(FINETUNE, [*changes, "optimizer.epochs=2"]), tmp_path / "run")
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-2"
    start, trained = (load_file(path / "model.safetensors") for path in (tiny_model_folder, folder))
    assert any(not torch.equal(start[name], trained[name]) for name in start)


def test_an_allowed_common_file_is_used_whole_on_both_sides(mine: Path, tmp_path: Path) -> None:
    recipe = load_recipe(FINETUNE, [f"data={mine}", "data.allow_shared_images=true"])
    made = _imported(recipe, tmp_path / "run")
    assert [len(part) for part in _parts(made)] == [30, 30]


def test_images_outside_the_folder_of_the_file_need_a_folder_that_is_named(
    mine: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    mine = mine.rename(tmp_path / "texts" / mine.name)
    mine.write_text(mine.read_text().replace('"image": "', f'"image": "{tmp_path}/'))
    with pytest.raises(InvalidRecordError, match=r"outside the folder .*in a recipe: images"):
        _imported(load_recipe(FINETUNE, [f"data={mine}"]), tmp_path / "run")
    images = [f"data.train.0.images={tmp_path}", f"data.validation.mine.images={tmp_path}"]
    made = _imported(load_recipe(FINETUNE, [f"data={mine}", *images]), tmp_path / "run")
    # The images that are held out depend on their paths, and so on the temporary folder
    trained_on, held_out = (len(part) for part in _parts(made))
    assert trained_on + held_out == 30
    assert held_out


def test_a_changed_file_or_another_of_the_same_name_is_read_again(mine: Path, tmp_path: Path) -> None:
    recipe = load_recipe(FINETUNE, [f"data={mine}"])
    before = _imported(recipe, tmp_path / "run")
    mine.write_text("\n".join(line.replace("white", "pale") for line in mine.read_text().splitlines()[5:]))
    after = _imported(recipe, tmp_path / "run")
    texts = [Store.open(made.data.train[0].store)[0].text for made in (before, after)]
    assert texts == ["a white square", "a pale square"]
    copy = shutil.copytree(tmp_path, tmp_path / "other", ignore=shutil.ignore_patterns("run"))
    other = _imported(load_recipe(FINETUNE, [f"data={copy / mine.name}"]), tmp_path / "run")
    assert other.data.train[0].store != after.data.train[0].store


def test_one_command_fine_tunes_an_existing_model(
    mine: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    changes = [f"data={mine}", f"model={tiny_model_folder}", "optimizer.epochs=null", "optimizer.steps=2"]
    changes += ["run.workers=0", "data.augmentation=none", "run.pictures=0", "optimizer.batch_size=4"]
    folder = train(load_recipe(FINETUNE, changes), tmp_path / "run")
    result = Mdetr.from_pretrained(folder, device="cpu").ground(
        tmp_path / "3.png", "a white square", threshold=0.0
    )
    assert len(result) > 0
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
    scored = pq.read_table(tmp_path / "evaluation" / "mine.parquet")["image_id"].to_pylist()
    assert sorted(scored) == ["12.png"]  # which were not trained on
