"""Learning rates, step by step, against the published rules."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mdetr.training.optimization import Schedule, ScheduleSettings


def _factors(schedule: Schedule, group: str, steps: list[int]) -> list[float]:
    return [schedule.factor(step, group) for step in steps]


def test_step_is_a_tenth_after_each_drop() -> None:
    schedule = Schedule(ScheduleSettings("step", lr_drop=2), steps_per_epoch=10, total_steps=60)
    assert _factors(schedule, "rest", [0, 19, 20, 39, 40]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_multistep_halves_at_the_drop_and_every_fifty_epochs_after() -> None:
    schedule = Schedule(ScheduleSettings("multistep", lr_drop=2), steps_per_epoch=10, total_steps=2000)
    assert _factors(schedule, "rest", [19, 20, 519, 520, 1020]) == [1, 0.5, 0.5, 0.25, 0.125]


def test_linear_with_warmup_is_for_the_text_encoder_alone() -> None:
    schedule = Schedule(
        ScheduleSettings("linear_with_warmup", lr_drop=5), steps_per_epoch=100, total_steps=1000
    )
    text = _factors(schedule, "text_encoder", [1, 5, 10, 505, 1000])
    assert text == pytest.approx([0.1, 0.5, 1, 0.5, 0])
    for group in ("backbone", "rest"):
        assert _factors(schedule, group, [1, 10, 499, 500]) == pytest.approx([1, 1, 1, 0.1])


def test_all_linear_with_warmup_is_for_every_group() -> None:
    schedule = Schedule(
        ScheduleSettings("all_linear_with_warmup", lr_drop=5), steps_per_epoch=100, total_steps=1000
    )
    for group in ("backbone", "text_encoder", "rest"):
        assert _factors(schedule, group, [5, 10, 505]) == pytest.approx([0.5, 1, 0.5])


def test_the_published_run_takes_its_first_step_at_the_base_rates() -> None:
    published = ScheduleSettings("linear_with_warmup", lr_drop=5)
    assert Schedule(published, 100, 1000).factor(0, "text_encoder") == 1
    warm = ScheduleSettings("linear_with_warmup", lr_drop=5, start_at_base=False)
    assert Schedule(warm, 100, 1000).factor(0, "text_encoder") == 0


def test_only_the_text_encoder_warms_up_in_the_published_schedule() -> None:
    schedule = Schedule(ScheduleSettings("linear_with_warmup", lr_drop=1, warmup=0.04), 20, 100)
    bases = {"text_encoder": 5e-5, "rest": 1e-4}

    def rates(step: int) -> list[float]:
        return [base * schedule.factor(step, name) for name, base in bases.items()]

    assert rates(0) == pytest.approx([5e-5, 1e-4])
    assert rates(1) == pytest.approx([1.25e-5, 1e-4])
    assert rates(20) == pytest.approx([5e-5 * 80 / 96, 1e-5])


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValidationError, match="input_value='cosine'"):
        ScheduleSettings("cosine")
