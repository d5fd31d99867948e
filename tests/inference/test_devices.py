"""Choosing a device: what this machine has is taken, anything else is refused in a sentence."""

from __future__ import annotations

import pytest
import torch

from mdetr import Mdetr
from mdetr.errors import InvalidInputError
from mdetr.inference.devices import check_export_device, choose_device, choose_dtype


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


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_auto_is_bfloat16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_dtype("auto", torch.device("cpu")) == choose_dtype("auto") == expected
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert Mdetr.from_pretrained("clevr-tiny", "cpu", "auto").model.dtype == expected


@pytest.mark.parametrize("is_real", [True, False])
def test_auto_does_not_take_what_a_gpu_emulates(monkeypatch: pytest.MonkeyPatch, is_real: bool) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or is_real
    )
    assert choose_dtype("auto", torch.device("cuda")) == (torch.bfloat16 if is_real else torch.float32)


def test_an_exported_model_takes_auto_as_the_precision_of_its_export() -> None:
    check_export_device(None, "auto")
    with pytest.raises(InvalidInputError, match="precision of its export"):
        check_export_device(None, "bfloat16")
