"""Plan of a run: counts, rates and times before it starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from mdetr.training.plan import TIMED, Group, Plan, make_plan
from mdetr.training.recipe_file import parse_recipe
from tests.small_training import components_of, small_recipe


def test_counts_are_those_of_the_model_and_the_data(shapes_store: Path, tmp_path: Path) -> None:
    content = small_recipe(shapes_store)
    content["optimizer"] |= {"epochs": 3, "steps": None, "batch_size": 4}
    content["model"] |= {"freeze": ["text_encoder", "decoder"]}
    recipe = parse_recipe(content)
    plan = make_plan(recipe, tmp_path)
    assert (plan.examples, plan.steps_per_epoch, plan.steps, plan.batch) == (8, 2, 6, 4)
    model = components_of(recipe).model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    assert {group.name for group in plan.groups} == {"backbone", "rest"}
    assert sum(group.parameters for group in plan.groups) == trained
    assert plan.frozen == every - trained > 0
    assert plan.state_bytes == 4 * (2 * every + 3 * trained)
    assert plan.seconds > 0
    assert plan.timed == TIMED
    text = "\n".join(plan.lines())
    assert "8 examples, 2 steps an epoch, 6 in all" in text
    assert re.search(
        r"a step of 4 examples takes \d+\.\d\d s here \(median of 5 steps after a warm-up\); 6", text
    )
    assert f"frozen: {plan.frozen:,} parameters" in text


def test_a_warning_names_an_average_that_keeps_too_much_of_its_start(
    shapes_store: Path, tmp_path: Path
) -> None:
    content = small_recipe(shapes_store)
    content["optimizer"] |= {"steps": 120}
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
    content["optimizer"] |= {"steps": 100}
    content["schedule"] = {"name": "all_linear_with_warmup", "warmup": 0.5, "start_at_base": False}
    (group, *_) = make_plan(parse_recipe(content), tmp_path).groups
    rates = group.rates
    assert rates[0] == 0
    assert max(rates) == pytest.approx(group.lr, rel=0.05)
    assert 0.4 < rates.index(max(rates)) / len(rates) < 0.6
    picture = group.drawing()
    assert picture[0] == "▁"
    assert "█" in picture[15:25]
    assert Group("rest", 1, 1, 0.0, (0.0, 0.0)).drawing() == "▁▁"


def test_the_first_steps_do_not_count(
    shapes_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that moves with the optimizer's steps only, by so many seconds.
    durations, now = iter([9, 5, 1, 3, 2, 1, 2]), [0.0]
    step = torch.optim.AdamW.step

    def timed(optimizer: torch.optim.AdamW) -> None:
        now[0] += next(durations)
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", timed)
    monkeypatch.setattr("mdetr.training.plan.time.perf_counter", lambda: now[0])
    plan = make_plan(parse_recipe(small_recipe(shapes_store)), tmp_path)
    assert (plan.seconds, plan.timed) == (2.0, 5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "100 of them take 50 s"), (30, "take 50 minutes"), (360, "take 10.0 hours")],
)
def test_the_length_of_a_run_has_suitable_units(seconds: float, words: str) -> None:
    assert words in Plan((), 0, 8, 1, 100, 0, 8, seconds, 1, None).lines()[-1]
