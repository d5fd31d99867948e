"""Small real training runs: they learn, resume, and stop with a clear error."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mdetr.data.store import Store
from mdetr.errors import CheckpointError, RecipeError, TrainingError
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.processor import MdetrProcessor
from mdetr.training.datasets import make_sampler, training_data
from mdetr.training.loop import RunSettings, batch_per_process
from mdetr.training.optimization import OptimizerSettings, parameter_groups, suited_rate
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import parse_recipe
from mdetr.training.run import make_accelerator, train
from mdetr.training.run_folder import last_checkpoint
from tests.model.models import small_model
from tests.small_training import small_recipe


def _log(folder: Path) -> list[dict[str, Any]]:
    state = json.loads((last_checkpoint(folder) / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def test_overfitting_eight_scenes_grounds_every_phrase(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store, log_every=50, save_every=1000, pictures=2)
    content["optimizer"] |= {"steps": 260, "batch_size": 8}
    content["data"]["texts_per_image"] = 7
    train(parse_recipe(content), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["eval_shapes_phrase_grounding_recall@1"] == 1.0
    assert list((tmp_path / "run" / "pictures").glob("shapes-*.png"))
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("checkpoint-")}
    assert names == {".lock", "recipe.yaml", "metrics.json", "report.html", "model", "pictures", "logs"}
    log = EventAccumulator(str(tmp_path / "run" / "logs")).Reload()
    scores = log.Scalars("eval/shapes_phrase_grounding_recall@1")
    assert scores[-1].value == 1.0
    assert len(log.Scalars("train/loss_ce_0")) == 5


def test_a_run_saves_a_model_that_loads(recipe: Recipe, tmp_path: Path) -> None:
    folder = train(recipe, tmp_path / "run")
    model, processor = MdetrForObjectDetection.from_pretrained(folder), MdetrProcessor.from_pretrained(folder)
    inputs = processor(torch.zeros(3, 96, 144, dtype=torch.uint8), "a red cube")
    with torch.no_grad():
        assert model(**inputs).logits.shape == (1, 12, 256)
    log = _log(tmp_path / "run")[-1]
    assert {"loss_ce", "loss_bbox_0", "loss_giou_proposals", "grad_norm", "lr_backbone", "lr_rest"} <= set(
        log
    )
    assert {"images_per_second", "data_wait", "padding"} <= set(log)
    assert 0 <= log["data_wait"] < 1


def test_bfloat16_trains_without_a_gpu(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store, precision="bf16", save_every=1)
    content["optimizer"] |= {"steps": 1}
    content["data"]["validation"] = {}
    train(parse_recipe(content), tmp_path / "bf16")
    train(parse_recipe(content | {"run": content["run"] | {"precision": "fp32"}}), tmp_path / "fp32")
    half, whole = (_log(tmp_path / name)[0]["loss"] for name in ("bf16", "fp32"))
    assert half == pytest.approx(whole, rel=0.02)
    assert half != whole


def test_a_resumed_run_equals_one_that_never_stopped(shapes_store: Path, tmp_path: Path) -> None:
    whole = parse_recipe(small_recipe(shapes_store))
    train(whole, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "checkpoint-4")
    train(whole, tmp_path / "stopped", resume=True)
    whole_log, resumed_log = _log(tmp_path / "whole"), _log(tmp_path / "stopped")
    assert [entry["loss"] for entry in resumed_log] == [entry["loss"] for entry in whole_log]
    models = [
        MdetrForObjectDetection.from_pretrained(tmp_path / name / "model") for name in ("whole", "stopped")
    ]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_one_process_has_nothing_to_shard(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store, sharding="fsdp")
    content["optimizer"] |= {"steps": 2}
    folder = train(parse_recipe(content), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-2" / "optimizer.pt").is_file()
    assert MdetrForObjectDetection.from_pretrained(folder)


def test_a_finished_run_makes_no_more_steps_when_resumed(recipe: Recipe, tmp_path: Path) -> None:
    short = replace(recipe, optimizer=replace(recipe.optimizer, steps=3))  # in the middle of an epoch
    folder = train(short, tmp_path / "run")
    before = MdetrForObjectDetection.from_pretrained(folder).state_dict()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    shutil.rmtree(folder)  # as if killed before it was written
    train(short, tmp_path / "run", resume=True)
    after = MdetrForObjectDetection.from_pretrained(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-3"


def test_an_unfinished_checkpoint_is_ignored(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe, run)
    (run / "checkpoint-4" / "complete").unlink()
    assert last_checkpoint(run).name == "checkpoint-2"


def test_a_run_is_not_overwritten_and_an_empty_folder_cannot_be_resumed(
    recipe: Recipe, tmp_path: Path
) -> None:
    train(recipe, tmp_path / "run")
    with pytest.raises(TrainingError, match="already holds a run"):
        train(recipe, tmp_path / "run")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train(recipe, tmp_path / "other", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(
    shapes_store: Path, tmp_path: Path
) -> None:
    content = small_recipe(shapes_store)
    run = tmp_path / "run"
    train(parse_recipe(content), run)
    (run / "checkpoint-4" / "complete").unlink()  # as if stopped after step 2
    content["optimizer"] |= {"lr": 1e30, "max_gradient_norm": 1e30}
    # The schedule's state and the rates come from the checkpoint, so the divergence is put into its weights.
    checkpoint = last_checkpoint(run)
    model = MdetrForObjectDetection.from_pretrained(checkpoint)
    with torch.no_grad():
        model.input_projection.weight.fill_(3e38)  # finite, and no more when it is multiplied
    model.save_pretrained(checkpoint)
    with pytest.raises(TrainingError, match=r"stopped at step 2.*bad_batch.json.*--resume"):
        train(parse_recipe(content), run, resume=True)
    bad = json.loads((run / "bad_batch.json").read_text())
    assert bad["step"] == 2
    ids = {record.id for record in Store.open(shapes_store)}
    assert bad["records"]
    assert {record["id"] for record in bad["records"]} <= ids
    assert last_checkpoint(run).name == "checkpoint-2"


def test_every_trained_parameter_is_in_the_group_of_its_name() -> None:
    model = small_model()
    settings = OptimizerSettings(batch_size=1, lr=3.0, lr_backbone=1.0, lr_text_encoder=2.0, steps=1)
    groups = {group["name"]: group for group in parameter_groups(model, settings)}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "backbone": 1.0,
        "text_encoder": 2.0,
        "rest": 3.0,
    }
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(names[id(p)].startswith("backbone.") for p in groups["backbone"]["params"])
    assert all(names[id(p)].startswith("text_encoder.") for p in groups["text_encoder"]["params"])
    assert "text_projection.linear.weight" in {names[id(p)] for p in groups["rest"]["params"]}
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    assert sum(len(group["params"]) for group in groups.values()) == trained


def test_default_rates_suit_the_size_of_the_model() -> None:
    assert suited_rate(185_000_000) == suited_rate(100_000_000) == 1e-4
    assert suited_rate(25_000_000) == pytest.approx(2e-4)
    assert suited_rate(2_900_000) == pytest.approx(5.9e-4, rel=0.01)  # clevr-tiny
    assert suited_rate(1000) == 1e-3
    groups = parameter_groups(small_model(), OptimizerSettings(batch_size=1, lr=2e-4, steps=1))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx({"backbone": 2e-5, "text_encoder": 1e-4, "rest": 2e-4})


@pytest.mark.parametrize(
    "text_size, total, rates",
    [
        (125_000_000, 185_000_000, (5e-5, 1e-4)),  # the released models: as published
        (481_152, 2_926_341, (5e-4, 5.85e-4)),  # clevr-tiny
        (100_000, 50_000_000, (1.414e-4, 1.414e-4)),  # never more than the rest
    ],
)
def test_a_small_text_encoder_trains_at_a_rate_that_suits_its_own_size(
    text_size: int, total: int, rates: tuple[float, float]
) -> None:
    model = nn.Module()
    model.text_encoder = nn.Linear(text_size, 1, bias=False, device="meta")
    model.encoder = nn.Linear(total - text_size, 1, bias=False, device="meta")
    groups = parameter_groups(model, OptimizerSettings(batch_size=1, steps=1))
    default = tuple(group["lr"] for group in groups)
    assert default == pytest.approx(rates, rel=0.01)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    assert batch_per_process(batch_size=12, gradient_accumulation=3, num_processes=2) == 2
    with pytest.raises(RecipeError, match="does not divide"):
        batch_per_process(batch_size=4, gradient_accumulation=3, num_processes=1)


def test_stores_are_drawn_by_weight(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["data"]["train"] = [
        {"store": str(shapes_store), "weight": 1.0},
        {"store": str(shapes_store), "weight": 3.0},
    ]
    content["data"]["validation"] = {}
    recipe = parse_recipe(content)
    dataset = training_data(recipe.data, seed=0)
    sampler = make_sampler(dataset, recipe.data, 4, 0, lambda size: size)
    epochs = []
    for epoch in (*range(50), 7):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert (torch.tensor(epochs) >= 8).float().mean() == pytest.approx(0.75, abs=0.05)
    assert epochs[7] == epochs[-1] != epochs[8]


def test_precision_and_trackers_that_the_machine_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"wandb is not installed: pip install wandb\."):
        make_accelerator(small_model(), RunSettings(trackers=["wandb"]), tmp_path)
    if not torch.accelerator.is_available():
        with pytest.raises(RecipeError, match="fp16 trains on a GPU only"):
            make_accelerator(small_model(), RunSettings(precision="fp16"), tmp_path)
