"""Progress of a run: losses and throughput of its steps, and the display of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from torch import Tensor

from mdetr.evaluation.evaluator import EVALUATED
from mdetr.wording import score_in_words, value_in_words

GIB = 2**30
ROWS = 12  # of the table
COLUMNS = {
    "loss": ("loss", "{:.3f}"),
    "grad_norm": ("gradient", "{:.2f}"),
    "lr_rest": ("rate", "{:.1e}"),
    "images_per_second": ("images/s", "{:.1f}"),
    "data_wait": ("waiting", "{:.1%}"),
    "padding": ("padding", "{:.1%}"),
    "gpu_memory_gib": ("GPU GiB", "{:.1f}"),
}
"""Key of the log -> name and format of the values that are displayed; TensorBoard has all of them."""

_ANSWERS = ("loss_answer_", "accuracy_answer_")
_REFERRED = ("loss_isfinal", "accuracy_isfinal")


class Throughput:
    """Measures throughput from one log entry to the next, without evaluations and checkpoints in between."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._images = 0
        self._waited = self._busy = 0.0
        self._padding: list[Tensor] = []
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the time until the next batches are there; a step begins here."""
        self._started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - self._started

    def count(self, inputs: Mapping[str, Any]) -> None:
        """Count the images and the padding of a batch, given the model's inputs."""
        pixels = inputs.get("pixel_values", inputs.get("images"))
        self._images += 0 if pixels is None else len(pixels)
        if "pixel_mask" in inputs:
            self._padding.append(1 - inputs["pixel_mask"].float().mean())

    def end_step(self) -> None:
        """Measure the time of a step, at its end."""
        self._busy += time.perf_counter() - self._started

    def read(self, processes: int = 1) -> dict[str, float]:
        """Return the measurements since the last call.

        Args:
            processes: Number of processes that each do the same.

        Returns:
            images_per_second, of all processes; data_wait, the fraction of the time that this process waited
            for data; padding, the fraction of its pixels that are padding; gpu_memory_gib, the peak of its
            GPU memory.
        """
        values: dict[str, float] = {}
        if self._busy:
            values["images_per_second"] = processes * self._images / self._busy
            values["data_wait"] = self._waited / self._busy
        if self._padding:
            values["padding"] = torch.stack(self._padding).mean().item()
        if torch.cuda.is_available():
            values["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / GIB
        self._reset()
        return values


class LossParts:
    """Averages the terms of the loss over batches.

    Terms of answers count only in batches with questions of their type, and terms of referred objects only in
    batches with referring expressions. In other batches their loss is 0 and their accuracy 1, as published,
    which would bias the average.

    Args:
        answer_types: Answer types of the model, in the order of their ids; empty if one head predicts all.
    """

    def __init__(self, answer_types: Sequence[str] = ()) -> None:
        self._answer_types = tuple(answer_types)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor], targets: Mapping[str, Any]) -> None:
        """Add the terms of a batch.

        Args:
            losses: Name -> scalar; all batches have the same names.
            targets: Targets of the batch, as the model takes them.
        """
        is_question = _target(targets, "answer") >= 0
        answer_type = _target(targets, "answer_type")
        refers = _target(targets, "referred_mask").any()
        for name, value in losses.items():
            # Decide whether the term counts, as a scalar on the loss's device: no step waits for the GPU
            counts = torch.ones_like(value, dtype=torch.bool)
            if name.startswith(_ANSWERS):
                kind = name.partition("_answer_")[2]
                has_type = is_question
                if kind in self._answer_types:
                    has_type = is_question & (answer_type == self._answer_types.index(kind))
                counts = has_type.any().to(value.device)
            elif name.startswith(_REFERRED):
                counts = refers.to(value.device)

            # Add it
            zero = torch.zeros_like(value)
            self._sums[name] = self._sums.get(name, zero) + torch.where(counts, value, zero)
            self._counts[name] = self._counts.get(name, zero) + counts

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Average the terms over all batches since the last call.

        Args:
            accelerator: Accelerator of the processes to average over; all of them must call this together.

        Returns:
            Name -> average, without the terms that counted in no batch.
        """
        names = list(self._sums)
        # Sum over the processes in one exchange
        added = torch.stack(list(self._sums.values()))
        counted = torch.stack(list(self._counts.values()))
        sums, counts = accelerator.reduce(torch.stack([added, counted]), "sum").tolist()
        self._sums, self._counts = {}, {}
        return {name: total / count for name, total, count in zip(names, sums, counts, strict=True) if count}


def _target(targets: Mapping[str, Any], name: str) -> Tensor:
    """Return a tensor of the targets; an empty one if there is none."""
    value = targets.get(name)
    return value if isinstance(value, Tensor) else torch.zeros(0, dtype=torch.long)


class Progress:
    """Displays a run as a live table, or as plain lines if there is no terminal.

    It is a context manager, which restores the terminal after an error.

    Args:
        console: Console to print to; None for standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._rows: deque[dict[str, str]] = deque(maxlen=ROWS)
        self._scores: dict[str, list[float]] = {}
        self._headline = ""
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, step: int, total_steps: int) -> None:
        """Begin to display a run.

        Args:
            step: Steps that the run has already made.
            total_steps: Steps of the whole run.
        """
        self._first, self._total, self._started = step, total_steps, time.monotonic()
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, refresh_per_second=2)
            self._live.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Display the values logged at a step.

        Args:
            step: Number of the step.
            values: Losses, throughput and scores by name.
        """
        self._headline = self._position(step)

        # Collect scores, and the values that have a column
        scores: dict[str, float] = {}
        for name, value in values.items():
            if name.startswith(EVALUATED):
                scores[name.removeprefix(EVALUATED)] = value
        for name, value in scores.items():
            self._scores.setdefault(name, []).append(value)
        shown: dict[str, str] = {}
        for name, (title, form) in COLUMNS.items():
            if name in values:
                shown[title] = form.format(values[name])
        if "loss" in values:
            self._rows.append({"step": f"{step:,}", **shown})

        # Update the table, or print a line
        if self._live is not None:
            self._live.update(self._table())
        elif scores:
            self._print({score_in_words(key): value_in_words(key, value) for key, value in scores.items()})
        elif "loss" in values:
            self._print(shown)

    def note(self, sentence: str) -> None:
        """Print a sentence as it is."""
        self.console.print(sentence, soft_wrap=True, markup=False)

    def _print(self, shown: dict[str, str]) -> None:
        line = "  ".join([self._headline, *(f"{name} {value}" for name, value in shown.items())])
        self.console.print(line, soft_wrap=True, markup=False)

    def _position(self, step: int) -> str:
        """Describe a step's position in the run, and estimate the time that is left."""
        # Steps before a resumed run take none of its time
        done = step - self._first
        seconds = (time.monotonic() - self._started) * (self._total - step) / max(done, 1)
        left = f", {timedelta(seconds=round(seconds))} left" if done and seconds >= 1 else ""
        return f"step {step:,} of {self._total:,}{left}"

    def _table(self) -> Group:
        """Make tables of the last log entries, and of the last and the best value of every score."""
        # Leave out columns without values
        titles = ["step"]
        for title, _ in COLUMNS.values():
            if any(title in row for row in self._rows):
                titles.append(title)
        steps = Table(*titles, title=self._headline or "starting")
        for row in self._rows:
            steps.add_row(*(row.get(title, "") for title in titles))
        if not self._scores:
            return Group(steps, Text())

        # List every score
        scores = Table("score", "now", "most")
        for name, values in self._scores.items():
            now, best = value_in_words(name, values[-1]), value_in_words(name, max(values))
            scores.add_row(Text(score_in_words(name)), now, best)
        return Group(steps, scores)
