"""The device that a model runs on."""

from __future__ import annotations

import torch

from mdetr.errors import InvalidInputError


def choose_device(device: str | torch.device | int | None = None) -> torch.device:
    """The device to run on: the one named, or else a GPU where there is one, or else the CPU.

    Args:
        device: Such as "cpu", "cuda", "cuda:1" or "mps"; a number means that GPU.

    Raises:
        InvalidInputError: The name is unknown, or this machine has no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = _present_devices()
    advice = f"this machine has {', '.join(present)}; give one of these, or leave the device out."
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        hint = " Did you mean 'cuda'?" if str(device).lower().startswith("gpu") else ""
        raise InvalidInputError(f"There is no kind of device {device!r}: {advice}{hint}") from None
    name = "cpu" if chosen.type == "cpu" else f"{chosen.type}:{chosen.index or 0}"
    if name not in present:
        raise InvalidInputError(f"The device {str(device)!r} is not available: {advice}")
    return chosen


def _present_devices() -> list[str]:
    """The names of this machine's devices: "cpu" and, for instance, "cuda:0"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]
