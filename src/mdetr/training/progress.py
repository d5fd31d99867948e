"""Live table of a run's progress, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from transformers import TrainerCallback

from mdetr.training.evaluation import EVALUATED
from mdetr.wording import score_in_words, value_in_words

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
"""Key of the log -> name and form of what is shown of it; all of it is in TensorBoard."""


class Progress(TrainerCallback):
    """Shows the first process's run; a context, so that the terminal is itself again after an error.

    Args:
        console: where to; standard output if left out.
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._first, self._started = state.global_step, time.monotonic()
        if self.console.is_terminal and state.is_world_process_zero:
            self._live = Live(self._table(), console=self.console, refresh_per_second=2)
            self._live.start()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        logs: dict[str, float] = kwargs["logs"]
        self._headline = self._where(state)
        scores = {name.removeprefix(EVALUATED): logs[name] for name in logs if name.startswith(EVALUATED)}
        for name, value in scores.items():
            self._scores.setdefault(name, []).append(value)
        shown = {title: form.format(logs[name]) for name, (title, form) in COLUMNS.items() if name in logs}
        if "loss" in logs:
            self._rows.append({"step": f"{state.global_step:,}", **shown})
        if self._live is not None:
            self._live.update(self._table())
        elif scores:
            self._say({score_in_words(key): value_in_words(key, value) for key, value in scores.items()})
        elif "loss" in logs:
            self._say(shown)

    def note(self, sentence: str) -> None:
        """Print a sentence as it is."""
        self.console.print(sentence, soft_wrap=True, markup=False)

    def _say(self, shown: dict[str, str]) -> None:
        line = "  ".join([self._headline, *(f"{name} {value}" for name, value in shown.items())])
        self.console.print(line, soft_wrap=True, markup=False)

    def _where(self, state: Any) -> str:
        done = state.global_step - self._first
        seconds = (time.monotonic() - self._started) * (state.max_steps - state.global_step) / max(done, 1)
        left = f", {timedelta(seconds=round(seconds))} left" if done and seconds >= 1 else ""
        return f"step {state.global_step:,} of {state.max_steps:,}{left}"

    def _table(self) -> Group:
        """The last rows of the log, and the last and the best of every score."""
        known = {title for row in self._rows for title in row}
        titles = ["step", *(title for title, _ in COLUMNS.values() if title in known)]
        steps = Table(*titles, title=self._headline or "starting")
        for row in self._rows:
            steps.add_row(*(row.get(title, "") for title in titles))
        if not self._scores:
            return Group(steps, Text())
        scores = Table("score", "now", "most")
        for name, values in self._scores.items():
            shown = (value_in_words(name, value) for value in (values[-1], max(values)))
            scores.add_row(Text(score_in_words(name)), *shown)
        return Group(steps, scores)
