"""`mdetr train` and `mdetr evaluate`: a recipe in; a model, then its scores, out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from mdetr.checkpoints.loading import load
from mdetr.data.collate import Collator
from mdetr.data.examples import ExampleDataset
from mdetr.data.held_out import open_store
from mdetr.data.record import Record
from mdetr.data.store import write_store
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.training.recipe_file import load_recipe
from tests.cli.conftest import Command
from tests.model.reference import reference_model
from tests.small_training import shapes_store, small_recipe  # noqa: F401 (a fixture)

RELEASED_SIZE = {"shortest_edge": 64, "longest_edge": 96}
PARTS = ("backbone", "text_encoder", "encoder", "decoder", "box_head")


@pytest.fixture
def recipe(shapes_store: Path, tmp_path: Path) -> Path:  # noqa: F811
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(small_recipe(shapes_store)))
    return path


def test_a_trained_model_is_scored_and_asked(
    command: Command, recipe: Path, picture: Path, tmp_path: Path
) -> None:
    run, scores = tmp_path / "run", tmp_path / "scores.json"
    code, output, _ = command("train", recipe, "--set", "optimizer.steps=2", "--output", run)
    assert code == 0
    assert f"The model is in {run / 'model'}" in output
    tables = tmp_path / "tables"
    code, output, _ = command(
        "evaluate", recipe, "--model", run / "model", "--json", scores, "--output", tables, "--worst", 3
    )
    assert code == 0
    assert "recall@1" in output
    assert len(pq.read_table(tables / "shapes.parquet")) > 3
    assert Image.open(tables / "shapes-worst.png").width > 480
    trained = json.loads((run / "metrics.json").read_text())
    for name, value in json.loads(scores.read_text())["shapes"].items():
        assert trained[f"eval_shapes_{name}"] == pytest.approx(value, abs=1e-6)
    assert command("ground", picture, "a cube", "--model", run / "model")[0] == 0


def _released(folder: Path) -> Path:
    """The largest released model with ResNet-101, but for its weights, for small images."""
    model = reference_model("pretrain_r101")
    model.save_pretrained(folder)
    MdetrProcessor(MdetrImageProcessor(size=RELEASED_SIZE), roberta_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture
def twenty_lines(tmp_path: Path) -> Path:
    """Twenty pictures of a colored square, each with its line."""
    lines = []
    for number in range(20):
        name, color = (("red", (200, 30, 30)), ("blue", (30, 30, 200)))[number % 2]
        image = Image.new("RGB", (96, 64), (120, 120, 120))
        image.paste(color, (4 * number, 20, 4 * number + 16, 36))
        image.save(tmp_path / f"{number}.png")
        box = [4 * number, 20, 4 * number + 16, 36]
        text = f"ein {name} Quadrat"
        lines.append({"image": f"{number}.png", "text": text, "boxes": [box], "phrases": [text]})
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


@pytest.mark.parametrize("kind", ["clevr-tiny", "released"])
def test_fine_tuning_on_twenty_lines_needs_the_documented_command_and_nothing_else(
    command: Command,
    twenty_lines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    name = kind if kind == "clevr-tiny" else str(_released(tmp_path / "released"))
    seen: list[tuple[int, int]] = []  # height and width of the batches, in training and evaluation
    forward = MdetrForObjectDetection.forward

    def watched(self: MdetrForObjectDetection, pixel_values: torch.Tensor, **inputs: Any) -> Any:
        seen.append((pixel_values.shape[-2], pixel_values.shape[-1]))
        return forward(self, pixel_values, **inputs)

    with monkeypatch.context() as watching:
        watching.setattr(MdetrForObjectDetection, "forward", watched)
        code, output, error = command(
            "train", "finetune", "--set", f"data={twenty_lines}", "--set", f"model={name}"
        )
    assert code == 0, error
    assert "step 20 of 20" in output
    assert "Warning" not in output

    # the images have the model's own size
    start, processor = load(name)
    size = processor.image_processor.size
    assert load("runs/finetune/model")[1].image_processor.size == size
    assert size["shortest_edge"] in map(min, seen)
    assert max(map(max, seen)) <= size["longest_edge"]

    # the scores are of images that were not trained on
    recipe = load_recipe("runs/finetune/recipe.yaml")
    trained_on = set(open_store(recipe.data.train[0]).image_ids().to_pylist())
    kept = open_store(recipe.data.validation["mine"])
    assert trained_on.isdisjoint(kept.image_ids().to_pylist())
    assert len(trained_on) + len(kept) == 20
    assert "eval_mine_phrase_grounding_recall@1" in json.loads(Path("runs/finetune/metrics.json").read_text())

    # the saved model has moved, and is better on images that it did not see
    batch = Collator(processor)([ExampleDataset(kept)[0]])
    trained, _ = load("runs/finetune/model")
    with torch.inference_mode():
        before, after = (float(model.eval()(**batch).loss) for model in (start, trained))
    assert after < before
    states = start.state_dict(), trained.state_dict()
    moved = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
    assert {part for part in PARTS if any(name.startswith(part) for name in moved)} == set(PARTS)


def test_a_dry_run_prints_the_whole_recipe_and_trains_nothing(
    command: Command, recipe: Path, tmp_path: Path
) -> None:
    code, output, _ = command(
        "train", recipe, "--set", "optimizer.lr=0.5", "--dry-run", "--output", tmp_path / "run"
    )
    assert code == 0
    assert yaml.safe_load(output)["optimizer"]["lr"] == 0.5
    assert yaml.safe_load(output)["optimizer"]["weight_decay"] == 1e-4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.stepps=2", "steps"),
        ("model.config.num_querys=2", "num_queries"),
        ("optimizer.lr=fast", "optimizer.lr"),
    ],
)
def test_a_misspelt_key_or_a_bad_value_is_named(
    command: Command, recipe: Path, tmp_path: Path, change: str, message: str
) -> None:
    code, _, error = command("train", recipe, "--set", change, "--output", tmp_path / "run")
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_whose_store_is_missing_is_refused(command: Command, recipe: Path, tmp_path: Path) -> None:
    code, _, error = command("evaluate", recipe, "--model", "x", "--set", "data.validation.shapes.store=none")
    assert code == 1
    assert "none" in error


def test_evaluation_runs_on_the_device_and_in_the_type_that_are_named(
    command: Command,
    recipe: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    ran_in: set[tuple[str, torch.dtype]],
) -> None:
    options = ("--model", tiny_model_folder, "--worst", 2, "--output", tmp_path / "tables")
    tasks = "data.validation.shapes.tasks=[phrase_grounding, referring, average_precision]"
    code, _, error = command(
        "evaluate", recipe, *options, "--device", "cpu", "--dtype", "bfloat16", "--set", tasks
    )
    assert code == 0, error
    assert ran_in == {("cpu", torch.bfloat16)}
    assert len(pq.read_table(tmp_path / "tables" / "shapes.parquet")) > 3
    code, _, error = command("evaluate", recipe, *options, "--device", "gpu")
    assert code == 1
    assert "no type of device 'gpu'" in error


def test_processes_do_not_share_the_device_that_is_named(
    command: Command, recipe: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, error = command("evaluate", recipe, "--model", tiny_model_folder, "--device", "cpu:0")
    assert code == 1
    assert error.startswith("mdetr: Each process needs its own device, but --device cpu:0 names a single one")


def test_answers_are_written_for_a_test_server(
    command: Command, recipe: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    names = {"source": "gqa", "split": "testdev", "image": "a.png", "image_id": "a", "text": "what is it?"}
    questions = [
        Record(**names, id=number, width=40, height=30, extra=json.dumps({"questionId": number}))
        for number in ("7", "8")
    ]
    write_store(tmp_path / "questions", questions, tmp_path)
    entry = {"store": str(tmp_path / "questions"), "tasks": ["question_answering"]}
    change = f"data.validation={json.dumps({'questions': entry})}"
    options = (
        "--model",
        tiny_model_folder,
        "--dtype",
        "float16",
        "--output",
        tmp_path / "tables",
        "--set",
        change,
    )
    code, _, error = command("evaluate", recipe, *options, "--submission", tmp_path / "answers.json")
    assert code == 0, error
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert [answer["questionId"] for answer in answers] == ["7", "8"]
    assert all(answer["prediction"] for answer in answers)


def test_several_recipes_make_one_table_with_the_models_that_they_trained(
    command: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = recipe.with_name("other.yaml")
    other.write_text(recipe.read_text())
    code, _, error = command("evaluate", recipe, other)
    assert code == 1
    assert "no model in runs/recipe/model; train" in error
    for path in (recipe, other):
        assert command("train", path, "--set", "optimizer.steps=1")[0] == 0
    code, output, error = command("evaluate", recipe, other, "--json", "scores.json", "--worst", 0)
    assert code == 0, error
    assert len(re.findall(r"│ (recipe|other) +│ shapes │ num_images +│ +\d+ │", output)) == 2
    scores = json.loads(Path("scores.json").read_text())
    assert scores.keys() == {"recipe", "other"}
    assert scores["recipe"]["shapes"] == pytest.approx(scores["other"]["shapes"], abs=1e-6)
    assert Path("runs/other-evaluation/shapes.parquet").is_file()
