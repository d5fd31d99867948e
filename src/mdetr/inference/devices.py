"""Choice of the device that a model runs on."""

from __future__ import annotations

import torch

from mdetr.errors import InvalidInputError


def choose_device(device: str | torch.device | int | None = None) -> torch.device:
    """Choose the device to run on: the given one, or a GPU if there is one, or the CPU.

    Args:
        device: For example "cpu", "cuda", "cuda:1" or "mps"; a number is the index of a GPU.

    Returns:
        The device.

    Raises:
        InvalidInputError: The name is unknown, or this machine has no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = _available_devices()
    advice = f"this machine has {', '.join(available)}; use one of these, or omit the device."
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        hint = " Did you mean 'cuda'?" if str(device).lower().startswith("gpu") else ""
        raise InvalidInputError(f"There is no type of device {device!r}: {advice}{hint}") from None
    name = "cpu" if chosen.type == "cpu" else f"{chosen.type}:{chosen.index or 0}"
    if name not in available:
        raise InvalidInputError(f"The device {str(device)!r} is not available: {advice}")
    return chosen


def _available_devices() -> list[str]:
    """List the devices of this machine: "cpu" and, for example, "cuda:0"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]
