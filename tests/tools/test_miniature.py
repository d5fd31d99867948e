"""The paper in miniature: claims that can be run, results that are not made twice, and the page of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mdetr.errors import MdetrError, RecipeError
from mdetr.training.recipe_file import load_recipe
from tests.small_training import SCENES, small_recipe
from tools.miniature.claims import ROOT, Claims, Figure, read_claims
from tools.miniature.page import PAGE, write_page
from tools.miniature.results import RESULTS, Result, read_results, training_log, write_result
from tools.miniature.runner import plan, show
from tools.miniature.verdicts import Estimate, estimate, judge, verdict_of

CLAIMS = read_claims()
HOME = {
    "run": "first",
    "score": "shapes.phrase_grounding_recall@1",
    "count": "shapes.phrase_grounding_num_phrases",
}
STORE = "stores/shapes"


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    """One claim with two runs, of which the second starts from the first; the data are imported."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_recipe(Path(STORE), save_every=1)))
    content = {
        "data": [
            {"makes": STORE, "command": f"mdetr data import clevr {SCENES} {STORE} --split train"},
        ],
        "runs": {
            "first": {"recipe": "small.yaml", "data": [STORE], "settings": ["optimizer.steps=2"]},
            "second": {
                "recipe": "small.yaml",
                "data": [STORE],
                "settings": ["optimizer.steps=1"],
                "after": "first",
            },
        },
        "claims": {
            "longer": {
                "title": "Longer is better",
                "says": "More steps help.",
                "paper": "nowhere",
                "curve": HOME["score"],
                "comparisons": [
                    {
                        "says": "after, before",
                        "higher": {**HOME, "run": "second"},
                        "lower": HOME,
                        "paper": "0.9, 0.8",
                    },
                ],
            }
        },
    }
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(content))
    return read_claims(tmp_path / "claims.yaml")


def made(claims: Claims, run: str, value: float, seed: int = 1, phrases: float = 400) -> Result:
    scores = {HOME["score"]: value, HOME["count"]: phrases}
    curve = {HOME["score"]: ((1, value / 2), (2, value))}
    command = f"mdetr train {run}"
    return Result(run, seed, claims.digest_of(run), [command], "0.1.0", scores, 2, 1.5, curve)


# The claims of the repository


@pytest.mark.parametrize("name", CLAIMS.runs)
def test_every_run_has_a_recipe_that_parses_and_the_scores_that_claims_compare(name: str) -> None:
    run = CLAIMS.runs[name]
    after = [] if run.after is None else [f"model=runs/{run.after}-1/model"]
    trained = load_recipe(CLAIMS.recipe_of(name), [*run.settings, "seed=1", *after])
    evaluated = load_recipe(CLAIMS.recipe_of(name), [*run.settings, *run.evaluation])

    # All stores are made
    stores = {str(entry.store) for entry in evaluated.data.validation.values()}
    if run.model is None:
        stores |= {str(entry.store) for entry in trained.data.train}
    assert stores == set(run.data)

    # All compared figures are of a task that is evaluated
    compared = [one for claim in CLAIMS.claims.values() for one in claim.comparisons]
    for figure in [side for one in compared for side in (one.higher, one.lower) if side.run == name]:
        for score in (figure.score, figure.count):
            store, _, rest = score.partition(".")
            assert any(rest.startswith(f"{task}_") for task in evaluated.data.validation[store].tasks)


def test_every_run_is_compared() -> None:
    assert set(CLAIMS.runs_of(CLAIMS.claims)) == set(CLAIMS.runs)


def test_results_in_the_repository_are_of_runs_with_these_settings() -> None:
    """A result of other settings would be left out of the page without a word."""
    files = {path.stem for path in RESULTS.glob("*.json")}
    current = {f"{run}-{result.seed}" for run, found in read_results(CLAIMS).items() for result in found}
    assert files == current


def test_the_page_shows_the_results_of_the_repository(tmp_path: Path) -> None:
    write_page(CLAIMS, read_results(CLAIMS), tmp_path / PAGE.name)
    assert (tmp_path / PAGE.name).read_text() == PAGE.read_text()
    drawings = {path.name: path.read_text() for path in (tmp_path / "miniature").glob("*.svg")}
    assert drawings == {path.name: path.read_text() for path in (PAGE.parent / "miniature").glob("*.svg")}


# Reading


def test_a_name_that_stands_for_nothing_is_refused(claims: Claims) -> None:
    file = claims.folder / "claims.yaml"
    file.write_text(file.read_text().replace("run: first", "run: frist"))
    with pytest.raises(
        RecipeError, match="a run, which claim longer compares, got frist; known are first, second"
    ):
        read_claims(file)


def test_an_unknown_key_is_refused(claims: Claims) -> None:
    file = claims.folder / "claims.yaml"
    file.write_text(file.read_text().replace("says:", "say:"))
    with pytest.raises(RecipeError, match=r"claims\.yaml: claims\.longer"):
        read_claims(file)


# Planning


def test_what_has_a_result_is_left_out_and_what_was_begun_is_resumed(claims: Claims, tmp_path: Path) -> None:
    results, work = tmp_path / "results", tmp_path / "work"
    assert [one.name for one in plan(claims, ["longer"], work, results)] == ["first", "second"]

    # A run that was killed after a checkpoint
    checkpoint = work / "runs" / "first-1" / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    assert "--resume" not in plan(claims, ["longer"], work, results)[0].training
    (checkpoint / "complete").touch()
    assert plan(claims, ["longer"], work, results)[0].training[-1] == "--resume"

    # A run that was killed before its evaluation
    (work / "runs" / "first-1" / "model").mkdir()
    first, second = plan(claims, ["longer"], work, results)
    assert (first.is_trained, second.is_trained) == (True, False)
    assert "model=runs/first-1/model" in second.training

    # Results
    write_result(made(claims, "first", 0.5), results)
    assert [one.name for one in plan(claims, ["longer"], work, results)] == ["second"]
    write_result(made(claims, "second", 0.5), results)
    assert plan(claims, ["longer"], work, results) == []


def test_a_model_to_start_from_is_made_again_if_only_its_result_is_there(
    claims: Claims, tmp_path: Path
) -> None:
    write_result(made(claims, "first", 0.5), tmp_path / "results")
    planned = plan(claims, ["longer"], tmp_path / "work", tmp_path / "results")
    assert [one.name for one in planned] == ["first", "second"]


def test_a_result_of_other_settings_is_made_again(claims: Claims, tmp_path: Path) -> None:
    write_result(made(claims, "first", 0.5), tmp_path / "results")
    (claims.folder / "small.yaml").write_text((claims.folder / "small.yaml").read_text() + "# changed\n")
    planned = plan(claims, ["longer"], tmp_path / "work", tmp_path / "results")
    assert [one.name for one in planned] == ["first", "second"]


def test_a_folder_of_other_settings_is_not_mixed_with_new_ones(claims: Claims, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "runs" / "first-1"
    folder.mkdir(parents=True)
    (folder / "digest.txt").write_text("of other settings")
    with pytest.raises(MdetrError, match="first-1 holds a run with other settings; remove it"):
        show(claims, ["longer"], tmp_path / "work", tmp_path / "results", lambda command, work: None)


# Verdicts


def test_a_difference_counts_from_two_standard_errors_on() -> None:
    def of(value: float) -> Estimate:
        return Estimate(value, 0.03, (value,))

    assert verdict_of(of(0.6), of(0.5)) == "shown"
    assert verdict_of(of(0.5), of(0.6)) == "opposite"
    assert verdict_of(of(0.58), of(0.5)) == "not shown"  # 2 * 0.03 * sqrt(2) is 0.085
    assert verdict_of(of(0.6), None) == "not run yet"


def test_the_error_is_the_larger_of_that_of_examples_and_that_of_seeds(claims: Claims) -> None:
    figure = Figure(**HOME)
    alike = [made(claims, "first", 0.5, seed) for seed in (1, 2)]
    assert estimate(figure, {"first": alike}, 2) == Estimate(0.5, 0.025, [0.5, 0.5])
    apart = [made(claims, "first", value) for value in (0.4, 0.6)]
    found = estimate(figure, {"first": apart}, 2)
    assert found is not None and found.error == pytest.approx(0.1)
    assert estimate(figure, {"first": apart}, 3) is None


def test_one_missing_or_opposite_comparison_decides(claims: Claims) -> None:
    seeds = {"first": 1, "second": 1}
    claim = claims.claims["longer"]
    (one,) = claim.comparisons
    both = replace(claim, comparisons=[one, replace(one, higher=one.lower, lower=one.higher)])
    results = {run: [made(claims, run, value)] for run, value in (("first", 0.2), ("second", 0.6))}
    assert judge(claim, results, seeds)[0] == "shown"
    assert judge(both, results, seeds)[0] == "opposite"
    assert judge(both, {"first": results["first"]}, seeds)[0] == "not run yet"


# Results


def test_minutes_are_those_of_all_steps_also_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    history = [
        {"loss": 2.0, "images_per_second": 8.0, "step": 100, "epoch": 1},
        {"eval_home_recall@1": 0.2, "eval_home_num_images": 5.0, "step": 100, "epoch": 1},
        {"loss": 1.0, "images_per_second": 16.0, "step": 150, "epoch": 1},
        {"eval_home_recall@1": 0.4, "eval_home_num_images": 5.0, "step": 150, "epoch": 1},
    ]
    for step, entries in ((100, history[:2]), (150, history)):
        file = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"global_step": step, "log_history": entries}))
    log = training_log(tmp_path, batch_size=16, stores=["home"])
    assert (log["steps"], log["minutes"]) == (150, round((100 * 16 / 8 + 50 * 16 / 16) / 60, 2))
    assert log["curve"]["home.recall@1"] == [(100, 0.2), (150, 0.4)]


# The page


def test_the_page_says_what_was_measured_and_how(claims: Claims, tmp_path: Path) -> None:
    results = {run: [made(claims, run, value)] for run, value in (("first", 0.2), ("second", 0.6))}
    write_page(claims, results, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| [Longer is better](#longer-is-better) | `make miniature CLAIM=longer` | shown |" in page
    assert "| after, before | 0.600 ± 0.024 | 0.200 ± 0.020 | 0.9, 0.8 | shown |" in page
    assert "| first | 2 | 1.5 | 1 | 0.1.0 |" in page
    assert "mdetr train first\n" in page
    assert "(miniature/longer.svg)" in page
    assert "first" in (tmp_path / "miniature" / "longer.svg").read_text()


def test_the_page_says_what_was_not_run(claims: Claims, tmp_path: Path) -> None:
    write_page(claims, {}, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| after, before | not run yet | not run yet | 0.9, 0.8 | not run yet |" in page


# All of it


def test_a_claim_runs_from_data_to_result_and_is_not_repeated(claims: Claims, tmp_path: Path) -> None:
    results, work = tmp_path / "results", tmp_path / "work"
    called: list[str] = []

    def call(command: Sequence[str], folder: Path) -> None:
        called.append(command[1])
        process = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr

    made = show(claims, ["longer"], work, results, call)
    assert called == ["data", "train", "evaluate", "train", "evaluate"]
    assert [(result.run, result.steps) for result in made] == [("first", 2), ("second", 1)]
    assert made[0].minutes >= 0 and made[0].scores[HOME["count"]] > 0
    assert str(ROOT) not in json.dumps(made[0].commands)
    assert read_results(claims, results).keys() == {"first", "second"}

    # Nothing is repeated, and of a lost result only the evaluation
    assert plan(claims, ["longer"], work, results) == []
    (results / "second-1.json").unlink()
    (again,) = plan(claims, ["longer"], work, results)
    assert (again.name, again.is_trained) == ("second", True)
