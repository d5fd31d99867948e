"""Result of a run with one seed, as a small JSON file that is kept in the repository."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mdetr.files import atomic_write
from tools.miniature.claims import ROOT, Claims

RESULTS = ROOT / "docs" / "miniature" / "results"


@dataclass(frozen=True)
class Result:
    """Scores of a run with one seed.

    Attributes:
        run: Name of the run.
        seed: Its seed.
        digest: `Claims.digest_of` the run, which tells whether its settings are still the same.
        commands: The commands that made the result.
        version: Version of the package.
        scores: "store.score" -> value.
        steps: Steps of the training; 0 where nothing was trained.
        minutes: Minutes that its steps took, without evaluations.
        curve: "store.score" -> its (step, value) during training.
    """

    run: str
    seed: int
    digest: str
    commands: Sequence[str]
    version: str
    scores: Mapping[str, float]
    steps: int
    minutes: float
    curve: Mapping[str, Sequence[Sequence[float]]]


def result_file(folder: Path, run: str, seed: int) -> Path:
    """Return the file of a result."""
    return folder / f"{run}-{seed}.json"


def write_result(result: Result, folder: Path) -> None:
    """Write a result to its file."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(result_file(folder, result.run, result.seed)) as file:
        file.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def read_results(claims: Claims, folder: Path = RESULTS) -> dict[str, list[Result]]:
    """Read the results of all runs, without those of other settings than the claims have now.

    Args:
        claims: The claims.
        folder: Folder of the results.

    Returns:
        Run -> its results, in the order of its seeds; a run without any is missing.
    """
    results: dict[str, list[Result]] = {}
    for name, run in claims.runs.items():
        digest = claims.digest_of(name)
        for seed in run.seeds:
            file = result_file(folder, name, seed)
            if not file.is_file():
                continue
            result = Result(**json.loads(file.read_text(encoding="utf-8")))
            if result.digest == digest:
                results.setdefault(name, []).append(result)
    return results


def training_log(run_folder: Path, batch_size: int, stores: Sequence[str]) -> dict[str, Any]:
    """Read steps, minutes and curve from the last checkpoint of a run.

    Args:
        run_folder: Folder of the run.
        batch_size: Images in a step.
        stores: Names of the validation stores.

    Returns:
        "steps", "minutes" and "curve" of a `Result`.
    """
    states = run_folder.glob("checkpoint-*/trainer_state.json")
    last = max(states, key=lambda file: int(file.parent.name.partition("-")[2]))
    history = json.loads(last.read_text(encoding="utf-8"))["log_history"]

    # The time is summed over the log, because a run may have been resumed
    seconds, before, curve = 0.0, 0, {}
    pattern = re.compile(rf"eval_({'|'.join(map(re.escape, stores))})_(.+)")
    for entry in history:
        if "images_per_second" in entry:
            seconds += (entry["step"] - before) * batch_size / entry["images_per_second"]
            before = entry["step"]
        for name, value in entry.items():
            if match := pattern.fullmatch(name):
                curve.setdefault(f"{match[1]}.{match[2]}", []).append((entry["step"], value))
    steps = max(entry["step"] for entry in history)
    return {"steps": steps, "minutes": round(seconds / 60, 2), "curve": curve}
