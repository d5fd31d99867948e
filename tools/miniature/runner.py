"""Runs the commands of claims, without those whose results there are already."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdetr
from mdetr.errors import MdetrError
from mdetr.training.recipe_file import load_recipe
from tools.miniature.claims import ROOT, Claims
from tools.miniature.results import RESULTS, Result, read_results, training_log, write_result

DIGEST_FILE = "digest.txt"  # beside a run's checkpoints


@dataclass(frozen=True)
class Planned:
    """A run with one seed.

    Attributes:
        name: Name of the run.
        seed: The seed.
        training: Command that trains it; None where nothing is trained.
        evaluation: Command that evaluates it.
        is_trained: Whether an earlier call has trained it.
    """

    name: str
    seed: int
    training: list[str] | None
    evaluation: list[str]
    is_trained: bool = False

    @property
    def folder(self) -> str:
        """Folder of the run in the working folder."""
        return run_folder(self.name, self.seed)


def run_folder(name: str, seed: int) -> str:
    """Return the folder of a run, relative to the working folder."""
    return f"runs/{name}-{seed}"


def plan(claims: Claims, names: Sequence[str], work: Path, results: Path = RESULTS) -> list[Planned]:
    """Decide which runs of claims are missing, and by which commands they are made.

    Args:
        claims: All claims.
        names: Names of the claims to show.
        work: Working folder, with what earlier calls have left.
        results: Folder of the results.

    Returns:
        The runs that have no result yet, or one of other settings, in an order in which they can be made.
    """
    existing = read_results(claims, results)
    missing: list[tuple[str, int]] = []
    for name in reversed(claims.runs_of(names)):
        run = claims.runs[name]
        done = {result.seed for result in existing.get(name, ())}
        seeds = {seed for seed in run.seeds if seed not in done}
        # A run that others start from is made again if its model is not there
        for later, seed in missing:
            if claims.runs[later].after == name and not (work / run_folder(name, seed) / "model").is_dir():
                seeds.add(seed)
        missing += [(name, seed) for seed in sorted(seeds, reverse=True)]
    return [_planned(claims, name, seed, work) for name, seed in reversed(missing)]


def _planned(claims: Claims, name: str, seed: int, work: Path) -> Planned:
    run, folder = claims.runs[name], run_folder(name, seed)
    recipe = claims.recipe_of(name)
    changes = _sets(run.settings)
    training = None
    if run.model is None:
        training = ["mdetr", "train", recipe, *changes, "--set", f"seed={seed}"]
        if run.after is not None:
            training += ["--set", f"model={run_folder(run.after, seed)}/model"]
        training += ["--output", folder]
        if any((work / folder).glob("checkpoint-*/complete")):
            training.append("--resume")
    model = run.model or f"{folder}/model"
    output = f"evaluations/{name}-{seed}"
    evaluation = ["mdetr", "evaluate", recipe, *changes, *_sets(run.evaluation), "--model", model]
    evaluation += ["--output", output, "--json", f"{output}.json"]
    return Planned(name, seed, training, evaluation, (work / folder / "model").is_dir())


def _sets(changes: Sequence[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def show(
    claims: Claims,
    names: Sequence[str],
    work: Path,
    results: Path = RESULTS,
    call: Callable[[Sequence[str], Path], None] | None = None,
) -> list[Result]:
    """Make the missing results of claims; a call that was killed is continued by the next one.

    Args:
        claims: All claims.
        names: Names of the claims to show.
        work: Working folder.
        results: Folder of the results.
        call: Function that runs a command in a folder; None for `call_command`.

    Returns:
        The new results.
    """
    call = call or call_command
    work.mkdir(parents=True, exist_ok=True)
    planned = plan(claims, names, work, results)

    # Make the data of the missing runs
    for step in claims.data_of(dict.fromkeys(one.name for one in planned)):
        if not (work / step.makes).exists():
            call(shlex.split(step.command), work)

    # Train and evaluate
    made = []
    for one in planned:
        run, digest = claims.runs[one.name], claims.digest_of(one.name)
        if run.model is None:
            _claim_folder(work / one.folder, digest)
        if one.training is not None and not one.is_trained:
            call(one.training, work)
        (work / "evaluations").mkdir(exist_ok=True)
        call(one.evaluation, work)
        made.append(_collect(claims, one, digest, work))
        write_result(made[-1], results)
    return made


def _claim_folder(folder: Path, digest: str) -> None:
    """Mark a run's folder with its settings, and refuse a folder of other settings."""
    file = folder / DIGEST_FILE
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(digest, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != digest:
        raise MdetrError(f"{folder} holds a run with other settings; remove it, to make it again.")


def _collect(claims: Claims, one: Planned, digest: str, work: Path) -> Result:
    """Collect the result of a run that was trained and evaluated."""
    run = claims.runs[one.name]
    content = (work / f"evaluations/{one.name}-{one.seed}.json").read_text(encoding="utf-8")
    scores = {
        f"{store}.{name}": value
        for store, values in json.loads(content).items()
        for name, value in values.items()
    }
    log: dict[str, Any] = {"steps": 0, "minutes": 0.0, "curve": {}}
    if run.model is None:
        recipe = load_recipe(claims.recipe_of(one.name), run.settings)
        log = training_log(work / one.folder, recipe.optimizer.batch_size, list(recipe.data.validation))
    commands = [one.training or [], one.evaluation]
    return Result(
        run=one.name,
        seed=one.seed,
        digest=digest,
        commands=[shown(command) for command in commands if command],
        version=mdetr.__version__,
        scores=scores,
        **log,
    )


def shown(command: Sequence[str]) -> str:
    """Format a command for people, with paths relative to the repository."""
    return shlex.join(part.replace(f"{ROOT}/", "") for part in command if part != "--resume")


def call_command(command: Sequence[str], folder: Path) -> None:
    """Run a command `mdetr ...` in a folder.

    Args:
        command: The command and its arguments.
        folder: Folder to run it in.

    Raises:
        MdetrError: The command failed; it has said why.
    """
    print(f"$ {shown(command)}", flush=True)
    result = subprocess.run([sys.executable, "-m", *command], cwd=folder)
    if result.returncode:
        raise MdetrError(f"It ended with {result.returncode}: {shown(command)}")
