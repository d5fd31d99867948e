"""Progress display: a live table in a terminal, plain lines in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mdetr.training.progress import ROWS, Progress

LOG = {"loss": 2.5, "grad_norm": 1.25, "lr_rest": 1e-3, "images_per_second": 12.0, "padding": 0.05}


def _run(console: Console) -> None:
    with Progress(console) as progress:
        progress.begin(0, 100)
        for step in range(1, ROWS + 3):
            progress.log(step, {**LOG, "loss": 100.0 - step})
        progress.log(ROWS + 2, {"eval_shapes_recall@1": 0.75})
        progress.log(ROWS + 2, {"eval_shapes_recall@1": 0.5, "eval_shapes_num_phrases": 1234.0})
        progress.log(ROWS + 2, {"train_runtime": 3.0})


def test_a_log_gets_one_line_for_each_entry() -> None:
    console = Console(file=io.StringIO(), width=80)
    _run(console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == ROWS + 4
    assert lines[0].startswith("step 1 of 100")
    assert lines[0].endswith("loss 99.000  gradient 1.25  rate 1.0e-03  images/s 12.0  padding 5.0%")
    assert lines[-1].endswith("shapes_recall@1 0.5000  shapes_num_phrases 1,234")


def test_a_terminal_gets_a_table_of_the_last_rows_and_of_the_scores() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=60)
    _run(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    last = shown[shown.rindex("step 14 of 100") :]
    assert "99.000" not in last  # the first rows have made room
    assert "86.000" in last
    assert "GPU" not in last  # nothing was logged of it
    assert [part in last for part in ("shapes_recall@1", "0.5000", "0.7500")] == [True] * 3
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_an_error_leaves_the_terminal_as_it_was() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(KeyboardInterrupt), Progress(console) as progress:
        progress.begin(0, 10)
        raise KeyboardInterrupt
    assert console.file.getvalue().endswith("\x1b[?25h")  # type: ignore[attr-defined]
