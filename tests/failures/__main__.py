"""Prints what becomes of each command that fails at each kind of moment, and is continued.

    python -m tests.failures                     two moments of each kind, of every command
    python -m tests.failures --every train       every moment of one command
    python -m tests.failures --random 20 train   twenty moments drawn at random

It exits with 1 if any run does not end as one without a failure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from tests.failures.faults import Action
from tests.failures.matrix import (
    WHOLE,
    Unbroken,
    faults_of,
    outcome_of,
    outcome_of_kill_after,
    random_moments,
    run_unbroken,
)
from tests.failures.scenarios import SCENARIOS

ACTIONS: tuple[Action, ...] = tuple(action for action in get_args(Action) if action != "none")


def main() -> int:
    """Run the chosen faults, print a line for each, and count those that went wrong."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m tests.failures")
    parser.add_argument("scenario", nargs="*", choices=[[], *names], help="commands; by default all")
    parser.add_argument("--action", action="append", choices=ACTIONS, help="what happens; by default all")
    parser.add_argument("--every", action="store_true", help="every moment, not two of each kind")
    parser.add_argument("--random", type=int, default=0, metavar="COUNT", help="kills at random, instead")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()

    wrong = total = 0
    with tempfile.TemporaryDirectory() as folder:
        for scenario in SCENARIOS:
            if options.scenario and scenario.name not in options.scenario:
                continue
            unbroken = run_unbroken(scenario, Path(folder))
            for moment, outcome in _outcomes(unbroken, Path(folder), options):
                total += 1
                is_wrong = not outcome.startswith(WHOLE)
                wrong += is_wrong
                print(f"{'WRONG' if is_wrong else 'ok':5} {scenario.name}: {moment}: {outcome}", flush=True)
    print(f"{total - wrong} of {total} ended as they should")
    return 1 if wrong else 0


def _outcomes(unbroken: Unbroken, base: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if options.random:
        for seconds in random_moments(unbroken, options.random, options.seed):
            yield f"kill after {seconds:.3f} s", outcome_of_kill_after(seconds, unbroken, base)
        return
    for fault in faults_of(unbroken, options.action or ACTIONS, options.every):
        yield str(fault), outcome_of(fault, unbroken, base)


if __name__ == "__main__":
    sys.exit(main())
