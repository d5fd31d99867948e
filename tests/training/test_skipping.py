"""Broken images and unusable records: skipped, listed, and too many of them stop the run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from mdetr.data.broken_examples import BrokenExamples
from mdetr.data.held_out import ValidationStore
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import Store, write_store
from mdetr.errors import TrainingError
from mdetr.evaluation.evaluator import Validation, evaluate
from mdetr.inference.grounder import Mdetr
from mdetr.training.datasets import training_data
from mdetr.training.recipe_file import parse_recipe
from mdetr.training.run import train
from mdetr.training.run_folder import last_checkpoint
from mdetr.training.skipping import SkippingDataset, prepare_data
from tests.small_training import SCENES, components_of, small_recipe


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


def test_another_example_replaces_a_broken_one(store: Path, tmp_path: Path) -> None:
    mixture = training_data(parse_recipe(small_recipe(store)).data, seed=0)
    log = tmp_path / "broken.jsonl"
    dataset = SkippingDataset(mixture, BrokenExamples(log))
    assert len(dataset) == 8
    _break(store, 7)
    for _ in range(3):
        assert dataset[7].records[0].image_id == "0"  # the next, from the beginning again
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["example"] == 7
    assert {json.loads(line)[key] for key in ("data", "source", "image_id")} == {"train", "clevr", "7"}
    assert json.loads(line)["id"] in {record.id for record in Store.open(store) if record.image_id == "7"}
    assert "CLEVR_train_000007.png" in json.loads(line)["reason"]
    _break(store, 3)
    with pytest.raises(TrainingError, match=r"2 of 8 examples cannot be read, more than 1%; .*broken\.jsonl"):
        dataset[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_continues_without_one_broken_image_and_stops_at_many(
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


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(("examples", "workers"), [("text", 0), ("image", 2)])
def test_a_text_or_an_answer_that_the_model_cannot_use_is_left_out_before_the_first_step(
    store: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    examples: str,
    workers: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = list(Store.open(store)) * 4
    records = [replace(record, id=str(number)) for number, record in enumerate(records)]
    assert len(records) >= 200  # so that two may be broken
    records[100] = replace(records[100], text="a red cube " * 200)
    records[120] = replace(records[120], answer="maybe", answer_type="binary")
    write_store(tmp_path / "odd", records, store.parent / "shapes")
    content = small_recipe(tmp_path / "odd", workers=workers)
    content["model"] = {"start_from": str(tiny_model_folder)}
    content["data"] |= {"examples": examples, "texts_per_image": 9}
    content["optimizer"] |= {"steps": 2}
    train(parse_recipe(content), tmp_path / "run")
    lines = _lines(tmp_path / "run" / "broken_examples.jsonl")
    assert {(line["data"], line["id"]) for line in lines} == {
        ("train", "100"),
        ("train", "120"),
        ("shapes", "100"),
    }
    reasons = {line["id"]: line["reason"] for line in lines}
    assert "The text has 603 tokens" in reasons["100"]
    assert "no answer 'maybe'" in reasons["120"]
    output = " ".join(capsys.readouterr().out.split())
    assert f"2 of {len(records)} records of train are left out, such as record '" in output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["eval_shapes_left_out"] == 1

    records[101:104] = [replace(record, text="a red cube " * 200) for record in records[101:104]]
    write_store(tmp_path / "odd", records, store.parent / "shapes", overwrite=True)
    content["data"]["validation"] = {}
    with pytest.raises(
        TrainingError, match=r"^5 of \d+ records of train cannot be used, more than 1%, such as record"
    ):
        train(parse_recipe(content), tmp_path / "other")
    assert len(_lines(tmp_path / "other" / "broken_examples.jsonl")) == 5


def test_a_flipped_text_that_became_too_long_is_listed_while_training(store: Path, tmp_path: Path) -> None:
    """Words change places in a flip, and "right" may have more tokens than "left"."""
    content = small_recipe(store)
    content["model"] = {"start_from": "clevr-tiny"}
    recipe = parse_recipe(content)
    components = components_of(recipe)
    mixture = training_data(recipe.data, seed=0)
    components.processor.max_text_tokens = (
        min(len(components.processor.tokenizer(r.text)["input_ids"]) for r in mixture[3].records) - 1
    )
    broken = BrokenExamples(tmp_path / "broken.jsonl")
    dataset = SkippingDataset(mixture, broken, components.check)
    with pytest.raises(TrainingError, match="examples cannot be read"):
        dataset[3]
    assert "tokens, but the model has only" in _lines(tmp_path / "broken.jsonl")[0]["reason"]


@pytest.mark.parametrize("pictures", [0, 3])
def test_an_unreadable_validation_image_is_left_out_and_counted(
    store: Path, tmp_path: Path, pictures: int
) -> None:
    whole = Path(shutil.copytree(store.parent / "shapes", tmp_path / "whole"))
    write_store(tmp_path / "train", read_clevr(whole, "train"), whole)
    content = small_recipe(tmp_path / "train", evaluate_every=2, pictures=pictures)
    content["data"]["validation"]["shapes"]["store"] = str(store)
    _break(store, 0)
    train(parse_recipe(content), tmp_path / "run")
    (line,) = _lines(tmp_path / "run" / "broken_examples.jsonl")
    assert (line["data"], line["image_id"]) == ("shapes", "0")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["eval_shapes_left_out"] == 1
    assert "eval_shapes_phrase_grounding_recall@1" in metrics


def _score(store: Path, folder: Path, **settings: Any) -> dict[str, float]:
    loaded = Mdetr.from_pretrained("clevr-tiny", device="cpu")
    entry = ValidationStore(store, ["phrase_grounding"], **settings)
    validation = Validation.open(
        entry, loaded.processor, "shapes", BrokenExamples(folder / "broken_examples.jsonl")
    )
    return evaluate(loaded.model, validation, 3, Accelerator(cpu=True))


def test_scores_are_those_of_the_images_that_can_be_read(store: Path, tmp_path: Path) -> None:
    source = Store.open(store)
    rest = [record for record in source if record.image_id != "2"]
    write_store(tmp_path / "rest", rest, source.image_root)
    _break(store, 2)
    assert _score(store, tmp_path) == _score(tmp_path / "rest", tmp_path) | {"left_out": 1.0}
    _break(store, 5)
    with pytest.raises(
        TrainingError, match=r"^2 of 8 images of shapes cannot be read, more than 1%; they are listed in"
    ):
        _score(store, tmp_path)


def test_too_many_unreadable_validation_images_stop_a_run_and_lose_nothing(
    store: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(store.parent / "shapes", tmp_path / "whole"))
    write_store(tmp_path / "train", read_clevr(whole, "train"), whole)
    content = small_recipe(tmp_path / "train", evaluate_every=1, save_every=100)
    content["data"]["validation"]["shapes"]["store"] = str(store)
    _break(store, 0, 1)
    with pytest.raises(
        TrainingError, match=r"2 of 8 images of shapes cannot be read.* continue with --resume"
    ):
        train(parse_recipe(content), tmp_path / "run")
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-1"


def test_an_answer_outside_the_vocabulary_counts_as_wrong_in_evaluation(store: Path, tmp_path: Path) -> None:
    source = Store.open(store)
    records = [replace(r, is_referred=None, answer="maybe", answer_type="binary") for r in source]
    write_store(tmp_path / "asked", records, source.image_root)
    loaded = Mdetr.from_pretrained("clevr-tiny", device="cpu")
    validation = Validation.open(
        ValidationStore(tmp_path / "asked", ["question_answering"]), loaded.processor
    )
    scores = evaluate(loaded.model, validation, 3, Accelerator(cpu=True))
    assert scores["question_answering_accuracy"] == 0
    assert "left_out" not in scores


def test_more_boxes_than_queries_are_counted_before_the_first_step(store: Path) -> None:
    content = small_recipe(store)
    counts = [len(record.boxes) for record in Store.open(store)]
    content["model"]["config"]["num_queries"] = max(counts) - 1
    recipe = parse_recipe(content)
    notes = prepare_data(recipe.data, components_of(recipe), recipe.seed).notes
    crowded = counts.count(max(counts))
    assert any(
        note.startswith(f"{crowded} text") and f"queries ({max(counts) - 1})" in note for note in notes
    )


def test_a_warning_names_a_task_without_labels(store: Path, tmp_path: Path) -> None:
    source = Store.open(store)
    asked = [replace(r, is_referred=None, boxes=(), spans=(), phrases=None, answer="2") for r in source]
    write_store(tmp_path / "asked", asked, source.image_root)
    content = small_recipe(store)
    content["data"]["validation"]["shapes"] |= {
        "store": str(tmp_path / "asked"),
        "tasks": ["phrase_grounding"],
    }
    recipe = parse_recipe(content)
    notes = prepare_data(recipe.data, components_of(recipe), recipe.seed).notes
    (warning,) = notes
    assert warning.endswith("set data.validation.shapes.tasks=[question_answering].")


def test_half_a_line_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    broken = BrokenExamples(tmp_path / "broken.jsonl")
    name = {"source": "a", "split": "train", "id": "1", "image_id": "one\u2028two"}
    broken.add_example("train", 3, Path("store"), name, "it is damaged")
    with broken.file.open("a", encoding="utf-8") as file:
        file.write('{"data": "train", "exam')
    assert broken.unreadable("train") == {3}
    broken.add_example("train", 5, Path("store"), name, "it is damaged")
    assert broken.unreadable("train") == {3, 5}
