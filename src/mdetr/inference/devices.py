"""Choice of the device that a model runs on, and of the type of its weights."""

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


def check_dtype(dtype: torch.dtype | str) -> None:
    """Check that weights can have a type.

    Args:
        dtype: The type; a name is left to the library that resolves it.

    Raises:
        InvalidInputError: It is not a floating type.
    """
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        raise InvalidInputError(f"Weights cannot be {dtype}; give a floating type such as torch.float16.")


def check_export_device(device: str | torch.device | int | None, dtype: torch.dtype) -> None:
    """Check that an exported model is requested to run where and how it does.

    Args:
        device: The requested device; None for any.
        dtype: The requested type of its weights.

    Raises:
        InvalidInputError: The device is not the CPU, or the type is not float32.
    """
    if device is not None and str(device) != "cpu":
        raise InvalidInputError(f"An exported model runs on the CPU, not on {device}; leave out the device.")
    if dtype != torch.float32:
        raise InvalidInputError(
            f"An exported model has the precision of its export, not {dtype}; leave out the type, or export "
            "it again with another --precision."
        )


def _available_devices() -> list[str]:
    """List the devices of this machine: "cpu" and, for example, "cuda:0"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]
