"""Throughput, data wait and padding of training steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

GIB = 2**30


class Meters:
    """Throughput from one log to the next; evaluations and checkpoints in between do not count."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._images = 0
        self._waited = self._busy = 0.0
        self._padding: list[Tensor] = []
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around all that gets the next batches; a step begins here."""
        self._started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - self._started

    def see(self, inputs: Mapping[str, Any]) -> None:
        """Count a batch on its way into the model."""
        pixels = inputs.get("pixel_values", inputs.get("images"))
        self._images += 0 if pixels is None else len(pixels)
        if "pixel_mask" in inputs:
            self._padding.append(1 - inputs["pixel_mask"].float().mean())

    def end_step(self) -> None:
        """A step is over."""
        self._busy += time.perf_counter() - self._started

    def read(self, processes: int = 1) -> dict[str, float]:
        """What was counted since the last reading.

        Args:
            processes: that each do the same.

        Returns:
            images_per_second, of all processes; data_wait, the share of the time in which this one waited for
            data; padding, the share of its pixels that is no image; gpu_memory_gib, the most it needed.
        """
        counted: dict[str, float] = {}
        if self._busy:
            counted["images_per_second"] = processes * self._images / self._busy
            counted["data_wait"] = self._waited / self._busy
        if self._padding:
            counted["padding"] = torch.stack(self._padding).mean().item()
        if torch.cuda.is_available():
            counted["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / GIB
        self._restart()
        return counted
