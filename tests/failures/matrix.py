"""What becomes of a command that fails at a moment, and is continued."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.failures.faults import Action, Fault, moments_of, run, start
from tests.failures.scenarios import Scenario, half_written, result_of

WHOLE = "the same result"
_SIGNALS = {"kill": -signal.SIGKILL, "cut": -signal.SIGXFSZ}
_HARMLESS: tuple[Action, ...] = ("clock", "slow")  # the command ends as without them
_CUT_AT = 1000  # bytes
_ROOM = re.compile(r"(make|free|free some|make some) (room|space)")


@dataclass(frozen=True)
class Unbroken:
    """A scenario without a fault: its moments, its result, and how long it takes in seconds."""

    scenario: Scenario
    moments: list[str]
    result: dict[str, object]
    seconds: float


def run_unbroken(scenario: Scenario, base: Path) -> Unbroken:
    """Run a scenario without a fault in the folder that all runs of `base` use."""
    folder, command = _prepare(scenario, base)
    started = time.monotonic()
    moments = moments_of(folder, base / "moments", *command)
    seconds = time.monotonic() - started
    (base / "moments").unlink()
    return Unbroken(scenario, moments, result_of(folder), seconds)


def outcome_of(fault: Fault, unbroken: Unbroken, base: Path) -> str:
    """Run a scenario with a fault, continue it, and compare.

    Args:
        fault: the fault.
        unbroken: the scenario without the fault.
        base: folder to work in.

    Returns:
        `WHOLE`, with the sentence of a command that ended by itself; or else what is wrong.
    """
    folder, command = _prepare(unbroken.scenario, base)
    ended = run(fault, folder, *command)
    if fault.action == "full" and ended.code == 0:  # all had been written before
        return _compare(unbroken, folder)
    if fault.action in _HARMLESS:
        return _compare(unbroken, folder) if ended.code == 0 else f"ended with {ended.messages[-500:]}"
    if fault.action == "full":
        problem = _problem_of_full_disk(ended.code, ended.messages, ended.sentence, folder)
        if problem is not None:
            return problem
        return _continue(unbroken, folder, command, f"; it said: {ended.sentence}")
    if ended.code != _SIGNALS[fault.action]:
        return f"it should have been killed, but ended with {ended.code}: {ended.messages[-500:]}"
    return _continue(unbroken, folder, command)


def outcome_of_kill_after(seconds: float, unbroken: Unbroken, base: Path) -> str:
    """Kill a scenario some seconds after its start, wherever it is then; see `outcome_of`."""
    folder, command = _prepare(unbroken.scenario, base)
    process = start(Fault(), folder, *command)
    time.sleep(seconds)
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return _continue(unbroken, folder, command)


def _prepare(scenario: Scenario, base: Path) -> tuple[Path, list[str]]:
    folder = base / "work"  # always the same, because some results hold absolute paths
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder, scenario.prepare(folder)


def _problem_of_full_disk(code: int, messages: str, sentence: str, folder: Path) -> str | None:
    if code != 1:
        return f"it should have ended with 1, but ended with {code}: {messages[-500:]}"
    if "Traceback" in messages or "Unexpected" in sentence or not _ROOM.search(sentence):
        return f"it did not say what to do: {messages[-700:]}"
    left = half_written(folder)
    return f"it left {', '.join(left)}" if left else None


def _continue(unbroken: Unbroken, folder: Path, command: Sequence[str], note: str = "") -> str:
    ended = run(Fault(), folder, *command, *unbroken.scenario.resume(folder))
    if ended.code and "already exists" not in ended.sentence:  # it was done but for its end
        return f"it could not be continued: {ended.messages[-500:]}"
    compared = _compare(unbroken, folder)
    return compared + note if compared == WHOLE else compared


def _compare(unbroken: Unbroken, folder: Path) -> str:
    result, expected = result_of(folder), unbroken.result
    names = sorted(result.keys() | expected.keys())
    different = [name for name in names if result.get(name) != expected.get(name)]
    return f"other content: {', '.join(different[:5])}" if different else WHOLE


def kinds_of(moments: Sequence[str]) -> list[str]:
    """The first and the last moment of each kind: those whose names differ in their numbers only."""
    kinds: dict[str, list[str]] = {}
    for moment in moments:
        kinds.setdefault(re.sub(r"\d+", "N", moment), []).append(moment)
    chosen = {moment for kind in kinds.values() for moment in (kind[0], kind[-1])}
    return [moment for moment in moments if moment in chosen]


def faults_of(unbroken: Unbroken, actions: Sequence[Action], every: bool) -> Iterator[Fault]:
    """List the faults of a scenario.

    Args:
        unbroken: the scenario.
        actions: what happens.
        every: at every moment, instead of two of each kind.

    Yields:
        The faults, in the order of their moments.
    """
    moments = unbroken.moments if every else kinds_of(unbroken.moments)
    for moment in moments:
        writes = moment.startswith("write ")
        if "kill" in actions:
            yield Fault("kill", moment)
        if writes and "cut" in actions and moment.endswith((".safetensors #1", ".pt #1", ".parquet #1")):
            yield Fault("cut", moment, _CUT_AT)
        if writes and "full" in actions and "tfevents" not in moment:
            yield Fault("full", moment, 1)
    for action in _HARMLESS:
        if action in actions:
            yield Fault(action, moments[len(moments) // 2])


def random_moments(unbroken: Unbroken, count: int, seed: int) -> list[float]:
    """Draw seconds after which a scenario is killed."""
    return [random.Random(seed + number).uniform(0, unbroken.seconds) for number in range(count)]
