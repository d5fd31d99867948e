"""Losses and throughput of training steps, for the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

GIB = 2**30


class Throughput:
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


_OF_ANSWERS = ("loss_answer_", "accuracy_answer_")
_OF_REFERRED = ("loss_isfinal", "accuracy_isfinal")


class LossParts:
    """Sums the parts of the loss, batch by batch.

    Answers count where a batch has questions of their type, and what an expression refers to where it has
    expressions; elsewhere their loss is 0 and their accuracy 1, as published, which would only dilute the
    average.

    Args:
        answer_types: the model's, in the order of their ids; empty where one head gives all answers.
    """

    def __init__(self, answer_types: Sequence[str] = ()) -> None:
        self._answer_types = tuple(answer_types)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor], targets: Mapping[str, Any]) -> None:
        """Add the parts of one batch.

        Args:
            losses: name -> scalar; all batches have the same names.
            targets: of the batch, as the model gets them.
        """
        for name, counts in self._counting(losses, targets):
            value = losses[name]
            zero = torch.zeros_like(value)
            self._sums[name] = self._sums.get(name, zero) + torch.where(counts, value, zero)
            self._counts[name] = self._counts.get(name, zero) + counts

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """The averages over all processes since the last call, without what no batch said anything about."""
        names = list(self._sums)
        both = torch.stack([torch.stack([of[name] for name in names]) for of in (self._sums, self._counts)])
        sums, counts = accelerator.reduce(both, "sum").tolist()
        self._sums, self._counts = {}, {}
        return {name: total / count for name, total, count in zip(names, sums, counts, strict=True) if count}

    def _counting(
        self, losses: Mapping[str, Tensor], targets: Mapping[str, Any]
    ) -> Iterator[tuple[str, Tensor]]:
        """Each name, and whether the batch says something about it, as a scalar on the loss's device."""
        asked = _of(targets, "answer") >= 0
        referring = _of(targets, "referred_mask").any()
        for name, value in losses.items():
            counts = torch.ones_like(value, dtype=torch.bool)
            if name.startswith(_OF_ANSWERS):
                kind = name.partition("_answer_")[2]
                of_type = asked
                if kind in self._answer_types:
                    of_type = asked & (_of(targets, "answer_type") == self._answer_types.index(kind))
                counts = of_type.any()
            elif name.startswith(_OF_REFERRED):
                counts = referring
            yield name, counts.to(value.device)


def _of(targets: Mapping[str, Any], name: str) -> Tensor:
    """A tensor of the targets; with no texts in it where they lack it."""
    value = targets.get(name)
    return value if isinstance(value, Tensor) else torch.zeros(0, dtype=torch.long)
