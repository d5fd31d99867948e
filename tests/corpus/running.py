"""Running the corpus in a process for each kind, whose time and memory are limited case by case."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.corpus.cases import Outcome, cases_of, judge, prepare

MAX_SECONDS = 10  # of a processor for one input
MAX_HANG = 30  # seconds by the clock, also on a machine with more work than processors
MAX_BYTES = 2_000_000_000  # of memory, with the libraries and the model that a kind needs
_KILL_BYTES = 6_000_000_000  # of data, to spare the machine
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")  # on Linux, writing 5 to it makes the peak of memory start anew


@dataclass(frozen=True)
class Report:
    """Outcomes of the cases of one kind, and the time that they took."""

    kind: str
    outcomes: list[Outcome]
    seconds: float

    def count(self, verdict: str) -> int:
        """Count the outcomes with a verdict."""
        return sum(outcome.verdict == verdict for outcome in self.outcomes)

    @property
    def wrong(self) -> list[Outcome]:
        """Outcomes that are wrong."""
        return [outcome for outcome in self.outcomes if outcome.verdict == "wrong"]


def run_kind(kind: str, pattern: str = "") -> Report:
    """Run the cases of a kind in another process; one that hangs or dies is wrong, and the rest goes on.

    Args:
        kind: Name of the kind.
        pattern: Part of the names of the cases to run.

    Returns:
        The report.
    """
    outcomes: list[Outcome] = []
    todo = [case.name for case in cases_of(kind) if pattern in case.name]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while todo:
            file = Path(folder) / "todo.json"
            file.write_text(json.dumps(todo))
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.corpus.running", kind, str(file)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stdout:
                outcomes.append(Outcome(**json.loads(line)))
                todo.pop(0)
            end = child.stderr.read().strip().splitlines()
            if child.wait() and todo:  # the case that ran has ended the process
                reason = f"ended the process ({child.returncode}): {' '.join(end)[-600:]}"
                outcomes.append(Outcome(todo.pop(0), "wrong", reason))
    return Report(kind, outcomes, time.monotonic() - start)


def _run(kind: str, todo: Sequence[str]) -> None:
    """Run cases in this process, and print the outcome of each."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(2, 1)  # what libraries print is no outcome
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (_KILL_BYTES, resource.RLIM_INFINITY))
    prepare(kind)
    cases = {case.name: case for case in cases_of(kind)}
    for name in todo:
        with tempfile.TemporaryDirectory() as folder:
            faulthandler.dump_traceback_later(MAX_HANG + 2, exit=True)
            _forget_peak()
            start, busy = time.monotonic(), time.process_time()
            outcome = judge(cases[name], Path(folder))
            seconds, busy, peak = time.monotonic() - start, time.process_time() - busy, _peak()
            faulthandler.cancel_dump_traceback_later()
        if busy > MAX_SECONDS or seconds > MAX_HANG:
            outcome = Outcome(name, "wrong", f"took {seconds:.0f} s; {outcome.detail}")
        if peak > MAX_BYTES:
            outcome = Outcome(name, "wrong", f"took {peak / 1e9:.1f} GB; {outcome.detail}")
        print(json.dumps(asdict(outcome)), file=out, flush=True)


def _forget_peak() -> None:
    if _RESET.exists():
        _RESET.write_text("5")


def _peak() -> int:
    """Return the largest resident memory since `_forget_peak`, in bytes; elsewhere than on Linux, ever."""
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _run(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
