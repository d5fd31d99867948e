"""Choice of the device that a model runs on, and of the type of its weights."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mdetr.errors import InvalidInputError
from mdetr.model.tensors import import_torch

if TYPE_CHECKING:
    import torch

EXPORT_DEVICE, EXPORT_DTYPE = "cpu", "float32"  # the only ones of exported models
AUTO_DTYPE = "auto"
_LOG = logging.getLogger(__name__)


def choose_device(device: str | torch.device | int | None = None) -> torch.device:
    """Choose the device to run on: the given one, or a GPU if there is one, or the CPU.

    Args:
        device: For example "cpu", "cuda", "cuda:1" or "mps"; a number is the index of a GPU.

    Returns:
        The device.

    Raises:
        InvalidInputError: The name is unknown, or this machine has no such device.
    """
    torch = import_torch()
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


def choose_dtype(dtype: torch.dtype | str, device: torch.device | None = None) -> torch.dtype:
    """Choose the type of weights.

    Args:
        dtype: The type, or its name such as "bfloat16"; "auto" for bfloat16 where the device computes with
            it, and float32 elsewhere, where bfloat16 would be slower.
        device: The device; only "auto" needs it, which is the CPU's if None.

    Returns:
        The type.

    Raises:
        InvalidInputError: There is no such type, or it is not a floating type.
    """
    torch = import_torch()
    if dtype == AUTO_DTYPE:
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise InvalidInputError(f"Weights cannot be {dtype}; give a floating type such as torch.float16.")
    return chosen


def _has_bfloat16(device: torch.device | None) -> bool:
    """Whether a device has instructions for bfloat16; torch emulates them otherwise, which is slow."""
    torch = import_torch()
    if device is not None and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device is not None and device.type != "cpu":
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def log_choices(device: torch.device, dtype: torch.dtype) -> None:
    """Log how a model runs, which `mdetr --verbose` shows."""
    torch = import_torch()
    kind = str(dtype).removeprefix("torch.")
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    advice = ""
    if dtype == torch.float32 and _has_bfloat16(device):
        advice = "; this device also computes with bfloat16, which is faster and less exact"
    _LOG.info("running on %s in %s%s, frozen norms folded%s", device, kind, threads, advice)


def check_request(device: str | torch.device | int | None, dtype: torch.dtype | str = EXPORT_DTYPE) -> None:
    """Check a device and a type of weights before a model is looked for, which may be an exported one.

    Args:
        device: The requested device; None for any.
        dtype: The requested type.

    Raises:
        InvalidInputError: This machine has no such device, or weights cannot have this type.
    """
    if find_spec("torch") is None:  # the model may be an exported one, which refuses them for its own reasons
        return
    if device is not None and str(device) != EXPORT_DEVICE:
        choose_device(device)
    if dtype not in (EXPORT_DTYPE, AUTO_DTYPE):
        choose_dtype(dtype)


def check_export_device(device: str | torch.device | int | None, dtype: torch.dtype | str | None) -> None:
    """Check that an exported model is requested to run where and how it does.

    Args:
        device: The requested device; None for any.
        dtype: The requested type of its weights; None for any.

    Raises:
        InvalidInputError: The device is not the CPU, or the type is not float32.
    """
    if device is not None and str(device) != EXPORT_DEVICE:
        raise InvalidInputError(f"An exported model runs on the CPU, not on {device}; leave out the device.")
    if dtype is not None and str(dtype).removeprefix("torch.") not in (EXPORT_DTYPE, AUTO_DTYPE):
        raise InvalidInputError(
            f"An exported model has the precision of its export, not {dtype}; leave out the type, or export "
            "it again with another --precision."
        )


def _available_devices() -> list[str]:
    """List the devices of this machine: "cpu" and, for example, "cuda:0"."""
    torch = import_torch()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]
