"""The average of the weights against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mdetr.errors import CheckpointError
from mdetr.training.ema import EmaSettings, ExponentialMovingAverage, start_fraction


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_each_update_keeps_the_decay_of_the_average_and_adds_the_rest() -> None:
    model = _model()
    ema = ExponentialMovingAverage(model, EmaSettings(0.9, ramp=False))
    expected = model[0].weight.detach().clone()
    for _ in range(5):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(3, 2))
        ema.update(model)
        expected = 0.9 * expected + 0.1 * model[0].weight.detach()
    torch.testing.assert_close(ema.average["0.weight"], expected)


def test_buffers_are_averaged_and_counters_copied() -> None:
    model = _model().train()
    ema = ExponentialMovingAverage(model, EmaSettings(0.5, ramp=False))
    model(torch.randn(8, 2) + 4)
    ema.update(model)
    torch.testing.assert_close(ema.average["1.running_mean"], model[1].running_mean / 2)
    assert ema.average["1.num_batches_tracked"] == 1


def test_a_ramp_follows_faster_at_first() -> None:
    model = _model()
    ema = ExponentialMovingAverage(model, EmaSettings(0.999))
    start = model[0].bias.detach().clone()
    with torch.no_grad():
        model[0].bias.fill_(1.0)
    ema.update(model)
    torch.testing.assert_close(ema.average["0.bias"], 0.1 * start + 0.9)


@pytest.mark.parametrize(
    ("steps", "ramp", "fraction"),
    [(120, False, 0.9763), (1, True, 0.1), (2, True, 0.1 * 2 / 11), (120, True, 0.0), (0, True, 1.0)],
)
def test_the_fraction_of_the_start_weights_is_known_beforehand(
    steps: int, ramp: bool, fraction: float
) -> None:
    settings = EmaSettings(0.9998, ramp)
    assert start_fraction(steps, settings) == pytest.approx(fraction, abs=1e-4)
    model = nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    ema = ExponentialMovingAverage(model, settings)
    torch.nn.init.zeros_(model.weight)
    for _ in range(steps):
        ema.update(model)
    assert float(ema.average["weight"]) == pytest.approx(fraction, abs=1e-4)


def test_a_model_has_the_average_inside_the_context_and_its_own_weights_after() -> None:
    model = _model()
    ema = ExponentialMovingAverage(model, EmaSettings(0.9, ramp=False))
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.fill_(7.0)
    with pytest.raises(RuntimeError), ema.applied_to(model):
        assert torch.equal(model[0].weight, start)
        raise RuntimeError
    assert (model[0].weight == 7).all()


def test_a_saved_average_resumes_with_the_same_numbers(tmp_path: Path) -> None:
    model = _model()
    whole = ExponentialMovingAverage(model, EmaSettings(0.9))
    whole.update(model)
    whole.save(tmp_path / "ema.safetensors")
    resumed = ExponentialMovingAverage(_model(), EmaSettings(0.9))
    resumed.load(tmp_path / "ema.safetensors")
    with torch.no_grad():
        model[0].weight.add_(1)
    for ema in (whole, resumed):
        ema.update(model)
    assert all(torch.equal(whole.average[name], resumed.average[name]) for name in whole.average)


def test_a_missing_or_foreign_average_is_refused(tmp_path: Path) -> None:
    ema = ExponentialMovingAverage(_model(), EmaSettings(0.9, ramp=False))
    with pytest.raises(CheckpointError, match="There is no"):
        ema.load(tmp_path / "none.safetensors")
    ExponentialMovingAverage(nn.Linear(4, 4), EmaSettings(0.9, ramp=False)).save(
        tmp_path / "other.safetensors"
    )
    with pytest.raises(CheckpointError, match="another model"):
        ema.load(tmp_path / "other.safetensors")
