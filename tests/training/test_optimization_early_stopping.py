"""Early stopping: a run ends when its score no longer improves, and saves the best model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mdetr.errors import RecipeError
from mdetr.modeling import MdetrForObjectDetection
from mdetr.training.optimization import EarlyStopper, EarlyStopping
from mdetr.training.recipe_file import parse_recipe
from mdetr.training.run import train
from tests.small_training import small_recipe


@pytest.mark.parametrize(
    ("scores", "kept", "stopped"),
    [
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [False, False, False]),
        ([0.3, 0.2, 0.3, 0.1], [0.3], [False, False, True, True]),
        ([0.3, 0.2, 0.4, 0.1, 0.2], [0.3, 0.4], [False, False, False, False, True]),
    ],
)
def test_patience_counts_evaluations_since_the_best(
    scores: list[float], kept: list[float], stopped: list[bool]
) -> None:
    best: list[float] = []
    stopper = EarlyStopper(
        EarlyStopping("shapes_x", 2), lambda metrics: best.append(metrics["eval_shapes_x"])
    )
    history: list[dict[str, float]] = []
    ended = []
    for score in scores:
        history.append({"eval_shapes_x": score})
        ended.append(stopper.should_stop({"eval_shapes_x": score}, history))
    assert best == kept
    assert ended == stopped


def test_a_run_ends_early_with_its_best_model(shapes_store: Path, tmp_path: Path) -> None:
    score = "shapes_referring_precision_giou@1"
    content = small_recipe(shapes_store, evaluate_every=1, save_every=1, keep=9)
    content["optimizer"] |= {"steps": 9, "lr": 0.0, "lr_backbone": 0.0, "lr_text_encoder": 0.0}
    content["run"]["early_stopping"] = {"score": score, "patience": 2}
    content["ema"] = None
    folder = train(parse_recipe(content), tmp_path / "run")
    # nothing is learned, so the first evaluation stays the best, and two more are waited for
    steps = sorted(int(path.name.split("-")[1]) for path in (tmp_path / "run").glob("checkpoint-*"))
    assert steps[-1] == 3
    kept = MdetrForObjectDetection.from_pretrained(folder).state_dict()
    first = MdetrForObjectDetection.from_pretrained(tmp_path / "run" / "checkpoint-1").state_dict()
    assert all(torch.equal(kept[name], first[name]) for name in first)
    assert f"eval_{score}" in json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_an_unknown_score_is_refused_with_the_closest_name(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["run"]["early_stopping"] = {"score": "pictures_recall@1"}
    with pytest.raises(RecipeError, match=r"early_stopping.score: expected a name .*\(shapes\), got"):
        parse_recipe(content)
    stopper = EarlyStopper(EarlyStopping("shapes_recal@1"), lambda metrics: None)
    with pytest.raises(RecipeError, match=r"expected shapes_recall@1, got shapes_recal@1"):
        stopper.should_stop({"eval_shapes_recall@1": 0.5, "eval_b": 1}, [])
