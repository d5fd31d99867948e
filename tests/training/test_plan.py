"""What a run will be: counts, rates and times, before it starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdetr.training.learner import make_learner
from mdetr.training.plan import Group, make_plan
from mdetr.training.recipe import parse_recipe
from tests.training.conftest import small_recipe


def test_counts_are_those_of_the_model_and_the_data(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["optimiser"] |= {"epochs": 3, "steps": None, "batch_size": 4}
    content["model"] |= {"freeze": ["text_encoder", "decoder"]}
    recipe = parse_recipe(content)
    plan = make_plan(recipe, tmp_path)
    assert (plan.examples, plan.steps_per_epoch, plan.steps, plan.batch) == (8, 2, 6, 4)
    model = make_learner(recipe).model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    assert {group.name for group in plan.groups} == {"backbone", "rest"}
    assert sum(group.parameters for group in plan.groups) == trained
    assert plan.frozen == every - trained > 0
    assert plan.state_bytes == 4 * (2 * every + 3 * trained)
    assert plan.seconds > 0
    text = "\n".join(plan.lines())
    assert "8 examples, 2 steps an epoch, 6 in all" in text
    assert f"frozen: {plan.frozen:,} parameters" in text


def test_an_average_that_keeps_the_start_is_warned_of(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["optimiser"] |= {"steps": 120}
    good = make_plan(parse_recipe(content), tmp_path).lines()
    assert "the saved average will hold 0.0% of the start weights" in good
    assert not any("Warning" in line for line in good)
    content["ema"] = {"decay": 0.9998, "ramp": False}
    plan = make_plan(parse_recipe(content), tmp_path)
    assert plan.start_fraction == pytest.approx(0.976, abs=1e-3)
    (warning,) = (line for line in plan.lines() if line.startswith("Warning"))
    assert re.search(r"after 120 steps .* will still hold 97.6% .*: set ema.ramp=true", warning)


def test_the_schedule_is_drawn(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["optimiser"] |= {"steps": 100}
    content["schedule"] = {"name": "all_linear_with_warmup", "warmup": 0.5, "start_at_base": False}
    (group, *_) = make_plan(parse_recipe(content), tmp_path).groups
    rates = group.rates
    assert rates[0] == 0
    assert max(rates) == pytest.approx(group.lr, rel=0.05)
    assert 0.4 < rates.index(max(rates)) / len(rates) < 0.6
    picture = group.picture()
    assert picture[0] == "▁"
    assert "█" in picture[15:25]
    assert Group("rest", 1, 1, 0.0, (0.0, 0.0)).picture() == "▁▁"
