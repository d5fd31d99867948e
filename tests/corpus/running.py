"""Running the corpus in a process of its own, whose time and memory are limited case by case."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.corpus.cases import Outcome, cases_of, judge, prepare

MAX_SECONDS = 10  # of a processor for one input
MAX_HANG = 30  # seconds by the clock, also on a machine with more work than processors
MAX_BYTES = 2_000_000_000  # of memory, with all libraries and the model
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


def run_kinds(kinds: Sequence[str], pattern: str = "") -> Iterator[Report]:
    """Run the cases of some kinds in another process; one that hangs or dies is wrong, and the rest goes on.

    Args:
        kinds: Names of kinds.
        pattern: Part of the names of the cases to run.

    Yields:
        The report of each kind.
    """
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    begun = dict.fromkeys(kinds, 0.0)
    todo = [(kind, case.name) for kind in kinds for case in cases_of(kind) if pattern in case.name]
    with tempfile.TemporaryDirectory() as folder:
        while todo:
            start = time.monotonic()
            file = Path(folder) / "todo.json"
            file.write_text(json.dumps(todo))
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.corpus.running", str(file)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stdout:
                kind, outcome = json.loads(line)
                outcomes[kind].append(Outcome(**outcome))
                begun[kind] += time.monotonic() - start
                start = time.monotonic()
                todo.pop(0)
            end = child.stderr.read().strip().splitlines()
            if child.wait() and todo:  # the case that ran has ended the process
                kind, name = todo.pop(0)
                reason = f"ended the process ({child.returncode}): {' '.join(end)[-600:]}"
                outcomes[kind].append(Outcome(name, "wrong", reason))
    for kind in kinds:
        yield Report(kind, outcomes[kind], begun[kind])


def _run(todo: Sequence[Sequence[str]]) -> None:
    """Run cases in this process, and print the outcome of each."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(2, 1)  # what libraries print is no outcome
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (_KILL_BYTES, resource.RLIM_INFINITY))
    for kind in dict.fromkeys(kind for kind, _ in todo):
        prepare(kind)
    for kind, name in todo:
        case = next(case for case in cases_of(kind) if case.name == name)
        with tempfile.TemporaryDirectory() as folder:
            faulthandler.dump_traceback_later(MAX_HANG + 2, exit=True)
            _forget_peak()
            start, busy = time.monotonic(), time.process_time()
            outcome = judge(case, Path(folder))
            seconds, busy, peak = time.monotonic() - start, time.process_time() - busy, _peak()
            faulthandler.cancel_dump_traceback_later()
        if busy > MAX_SECONDS or seconds > MAX_HANG:
            outcome = Outcome(name, "wrong", f"took {seconds:.0f} s; {outcome.detail}")
        if peak > MAX_BYTES:
            outcome = Outcome(name, "wrong", f"took {peak / 1e9:.1f} GB; {outcome.detail}")
        print(json.dumps((kind, asdict(outcome))), file=out, flush=True)


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
    _run(json.loads(Path(sys.argv[1]).read_text()))
