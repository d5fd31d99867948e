"""Reading and checking of recipe files, and the messages of errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mdetr.errors import RecipeError
from mdetr.training.ema import EmaSettings
from mdetr.training.recipe_file import (
    check_files,
    load_recipe,
    parse_recipe,
    recipe_names,
    shipped_recipe,
    to_yaml,
)
from tests.small_training import small_recipe

PUBLISHED = [shipped_recipe(name) for name in recipe_names()]
FINETUNE = shipped_recipe("finetune")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_recipe_of_the_package_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert parse_recipe(yaml.safe_load(to_yaml(recipe))) == recipe


def _with(change: str, tmp_path: Path) -> Path:
    content = small_recipe(Path("stores/none"))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    load_recipe(path, [change])
    return path


@pytest.mark.parametrize("name", ["attention_heads", "feedforward_size", "num_attention_heads", "d_model"])
def test_earlier_and_other_names_of_the_configuration_are_known(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(_with(f"model.config.{name}=8", tmp_path), [f"model.config.{name}=8"])
    assert recipe.model.config[name] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizr.lr=1", r"unknown key optimizr \(did you mean optimizer\?\)"),
        ("optimizer.learning_rate=1", r"unknown key optimizer.learning_rate"),
        ("optimizer.lr_backbon=1", r"unknown key optimizer.lr_backbon \(did you mean lr_backbone"),
        (
            "data.augmentation={heigth: 3, width: 4}",
            r"unknown key data.augmentation.heigth|height is missing",
        ),
        (
            "data.augmentation={height: 3, width: 4, flip_languages: [english]}",
            r"data\.augmentation\.flip_languages.* 'de', 'en', 'es'",
        ),
        ("data.train.0.sotre=x", r"unknown key data.train.0.sotre \(did you mean store\?\)"),
        ("model.config.num_querys=3", r"unknown key model.config.num_querys \(did you mean num_queries"),
        (
            "data.validation.shapes.tasks=[grounding]",
            r"unknown task 'grounding' in data.validation.shapes.tasks",
        ),
        ("optimizer.lr=fast", r"optimizer.lr: .*got 'fast'"),
        ("optimizer.batch_size=0", r"optimizer.batch_size: .*greater than 0, got 0"),
        ("optimizer.lr=-0.1", r"optimizer.lr: .*greater than or equal to 0, got -0.1"),
        ("schedule.warmup=1.5", r"schedule.warmup: .*less than or equal to 1, got 1.5"),
        ("run.keep=1", r"run.keep: .*greater than or equal to 2, got 1"),
        ("schedule.name=cosine", r"schedule.name: .*'linear_with_warmup'.*got 'cosine'"),
        ("optimizer.steps=null", r"either optimizer.epochs or optimizer.steps"),
        ("data.mosaic=0.5", r"data\.mosaic needs data\.compose_texts: true"),
        ("optimizer.lr", r"--set: expected key=value"),
        ("optimizer.lr=[", r"not valid YAML"),
        ("data.train.7.store=x", r"--set data.train.7.store: the recipe has no such key"),
        ("data.train.first.store=x", r"--set data.train.first.store: the recipe has no such key"),
        ("seed.of.all=3", r"--set seed.of.all: the recipe has no such key"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_section(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        _with(change, tmp_path)


def test_changes_replace_values_of_the_file(tmp_path: Path) -> None:
    path = _with("seed=5", tmp_path)
    recipe = load_recipe(path, ["optimizer.lr=1e-5", "data.train.0.weight=2", "ema=null"])
    assert recipe.optimizer.lr == 1e-5
    assert recipe.data.train[0].weight == 2
    assert recipe.ema is None


@pytest.mark.parametrize("spelling", ["optimizer", "optimiser"])
def test_steps_and_epochs_replace_each_other_under_the_new_and_the_old_name(
    spelling: str, tmp_path: Path
) -> None:
    path = _with("seed=5", tmp_path)
    by_epochs = load_recipe(path, [f"{spelling}.epochs=2.5"]).optimizer
    assert (by_epochs.epochs, by_epochs.steps) == (2.5, None)
    by_steps = load_recipe("finetune", [f"{spelling}.steps=12", f"{spelling}.lr=0.5"]).optimizer
    assert (by_steps.epochs, by_steps.steps, by_steps.lr) == (None, 12, 0.5)
    with pytest.raises(RecipeError, match=r"either optimizer.epochs or optimizer.steps"):
        load_recipe(path, [f"{spelling}.epochs=2", f"{spelling}.steps=12"])


def test_a_file_may_have_the_old_name_of_the_optimizer_with_a_notice_but_not_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _with("seed=5", tmp_path)
    recipe, text = load_recipe(path), path.read_text()
    assert not caplog.records
    path.write_text(text.replace("optimizer:", "optimiser:"))
    assert load_recipe(path) == recipe
    assert caplog.messages == [
        f"{path}: write optimizer instead of optimiser, which will be removed in version 0.2."
    ]
    path.write_text(text + "optimiser: {batch_size: 2}")
    with pytest.raises(RecipeError, match="optimiser and optimizer are the same section; keep one"):
        load_recipe(path)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        load_recipe(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: [")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(broken)
    broken.write_text("seed: 1\ndata: {}\nseed: 2")
    with pytest.raises(RecipeError, match=r"not valid YAML: duplicate key seed .*line 3"):
        load_recipe(broken)
    broken.write_text("- a list")
    with pytest.raises(RecipeError, match="got a list"):
        load_recipe(broken)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PUBLISHED[0].read_bytes())
    assert load_recipe(path) == load_recipe(PUBLISHED[0])


def test_all_missing_stores_are_named_before_anything_starts(tmp_path: Path) -> None:
    change = "data.validation.shapes.store=stores/other"
    with pytest.raises(RecipeError, match=r"There is no store stores/none, stores/other; make it with"):
        check_files(load_recipe(_with("seed=1", tmp_path), [change]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "missing.jsonl",
            r"^There is no file \S*missing.jsonl; check the path, or name another with --set data=",
        ),
        ("missing.JSONL", r"^There is no file \S*missing.JSONL; check"),
        ("missing", r"^There is no store \S*missing; make it with 'mdetr data import', or name a store or a"),
        ("notes.txt", r"^Expected a store or a .jsonl file, got \S*notes.txt; convert it with"),
    ],
)
def test_absent_data_are_named_once_with_what_to_do(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").touch()
    recipe = load_recipe(FINETUNE, [f"data={tmp_path / name}"])
    with pytest.raises(RecipeError, match=message) as caught:
        check_files(recipe)
    assert str(caught.value).count(name) == 1


def test_a_tilde_means_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = load_recipe(FINETUNE, ["data=~/mine.jsonl", "model=~/start"])
    assert recipe.data.train[0].store == tmp_path / "mine.jsonl"
    assert recipe.model.start_from == str(tmp_path / "start")


def test_a_model_to_start_from_replaces_the_parts_of_a_new_one() -> None:
    new = load_recipe("clevr-tiny")
    assert new.model.backbone_weights is not None and new.model.tokenizer != "roberta"
    started = load_recipe("clevr-tiny", ["model=runs/clevr-tiny/model"])
    assert started.model.start_from == "runs/clevr-tiny/model"
    assert (started.model.backbone_weights, started.model.tokenizer) == (None, "roberta")
    assert started.model.config == new.model.config


def test_averages_suit_runs_of_any_length_except_in_published_experiments() -> None:
    for path in PUBLISHED:
        ema = load_recipe(path).ema
        own = path.stem in ("finetune", "clevr-tiny", "clevr-tiny-qa", "clevr-tiny-varied", "photo-tiny")
        if ema is not None:
            assert ema.ramp is own, path
            assert own or ema.decay == 0.9998
    assert EmaSettings().ramp
