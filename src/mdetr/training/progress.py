"""Live table of a run's progress, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mdetr.evaluation.evaluator import EVALUATED
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


class Progress:
    """Shows a run; a context, so that the terminal is itself again after an error.

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

    def begin(self, step: int, total_steps: int) -> None:
        """Begin to show a run that has made some of its steps."""
        self._first, self._total, self._started = step, total_steps, time.monotonic()
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, refresh_per_second=2)
            self._live.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show what was logged at a step."""
        self._headline = self._where(step)
        scores = {
            name.removeprefix(EVALUATED): value
            for name, value in values.items()
            if name.startswith(EVALUATED)
        }
        for name, value in scores.items():
            self._scores.setdefault(name, []).append(value)
        shown = {
            title: form.format(values[name]) for name, (title, form) in COLUMNS.items() if name in values
        }
        if "loss" in values:
            self._rows.append({"step": f"{step:,}", **shown})
        if self._live is not None:
            self._live.update(self._table())
        elif scores:
            self._say({score_in_words(key): value_in_words(key, value) for key, value in scores.items()})
        elif "loss" in values:
            self._say(shown)

    def note(self, sentence: str) -> None:
        """Print a sentence as it is."""
        self.console.print(sentence, soft_wrap=True, markup=False)

    def _say(self, shown: dict[str, str]) -> None:
        line = "  ".join([self._headline, *(f"{name} {value}" for name, value in shown.items())])
        self.console.print(line, soft_wrap=True, markup=False)

    def _where(self, step: int) -> str:
        done = step - self._first
        seconds = (time.monotonic() - self._started) * (self._total - step) / max(done, 1)
        left = f", {timedelta(seconds=round(seconds))} left" if done and seconds >= 1 else ""
        return f"step {step:,} of {self._total:,}{left}"

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
