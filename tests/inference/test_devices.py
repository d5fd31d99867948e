"""Choosing a device: what this machine has is taken, anything else is refused in a sentence."""

from __future__ import annotations

import pytest
import torch

from mdetr import Mdetr
from mdetr.errors import InvalidInputError
from mdetr.inference.devices import choose_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_taken_where_there_is_one() -> None:
    assert choose_device() == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(InvalidInputError, match=r"'cuda:2' is not .* has cpu, cuda:0, cuda:1;"):
        choose_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda"), "mps", "meta"])
def test_a_device_that_is_not_here_is_refused(device: str | torch.device) -> None:
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(InvalidInputError, match=f"{device}' is not available: this machine has cpu;"):
        choose_device(device)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["gpu", "GPU", "", "cuda:x"])
def test_a_device_that_does_not_exist_is_refused_before_the_model_is_loaded(device: str) -> None:
    with pytest.raises(InvalidInputError, match=f"no type of device '{device}': this machine has"):
        Mdetr.from_pretrained("no-such-model", device=device)


def test_a_gpu_has_another_name_in_torch() -> None:
    with pytest.raises(InvalidInputError, match=r"no type of device 'gpu': .* Did you mean 'cuda'\?"):
        choose_device("gpu")
