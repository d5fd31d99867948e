"""Commands that are killed, meet a full or slow disk or a clock that is set back, and give the same result.

`python -m tests.failures` tries all kinds of moments; these have gone wrong, or matter most.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdetr.errors import InvalidInputError, TrainingError
from mdetr.files import replace_folder, restore_folder
from mdetr.processes import locked
from mdetr.training import run_folder
from tests.failures.faults import Fault, run
from tests.failures.matrix import WHOLE, Unbroken, faults_of, kinds_of, outcome_of, run_unbroken
from tests.failures.scenarios import SCENARIOS, Scenario, half_written

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the faults are signals and limits of POSIX")

_IMAGE = "read inputs/scenes/images/train/CLEVR_train_000005.png"
FAULTS: dict[str, tuple[Fault, ...]] = {
    "train": (
        Fault("kill", f"{_IMAGE} #2"),  # while the second batches are read, or in the evaluation after
        Fault("kill", "write run/.checkpoint-4.new/ema.safetensors #1"),
        Fault("cut", "write run/.checkpoint-4.new/optimizer.pt #1", 1000),
        Fault("kill", "rename run/.model.new -> run/model #1"),
        Fault("full", "write run/.TEMPORARY.html #1", 1),
        Fault("full", "write run/.TEMPORARY.html #2", 1),  # nothing is written after it
        Fault("clock", "write run/.checkpoint-2.new/complete #1"),
        Fault("slow", "write run/.checkpoint-2.new/complete #1"),
    ),
    "train, keeping the best model": (Fault("kill", "rename run/.model.new -> run/model #2"),),
    "data import": (
        Fault("cut", "write stores/.shapes.new/data-00000.parquet #1", 1000),
        Fault("kill", "rename stores/.shapes.new -> stores/shapes #1"),
        Fault("full", "write stores/.shapes.new/store.json #1", 1),
    ),
    "data combine": (
        Fault("kill", "write .combined.new/store.json #1"),
        Fault("kill", "read .combined-combining #1"),
        Fault("full", "write .combined-combining/unfinished-00063.parquet #1", 1),
    ),
    "label": (
        Fault("kill", "rename labels/results/.TEMPORARY.parquet -> labels/results/00000.parquet #1"),
        Fault("full", "write labels/.TEMPORARY.json #3", 1),
    ),
}


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda scenario: scenario.name)
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unbroken]:
    yield run_unbroken(request.param, tmp_path_factory.getbasetemp() / "failures")


def test_a_command_that_failed_continues_to_the_same_result(
    unbroken: Unbroken, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert unbroken.result
    base = tmp_path_factory.getbasetemp() / "failures"
    for fault in FAULTS[unbroken.scenario.name]:
        assert fault.moment in unbroken.moments
        outcome = outcome_of(fault, unbroken, base)
        assert outcome.startswith(WHOLE), f"{fault}: {outcome}"


def test_the_matrix_has_each_kind_of_moment_twice_and_notices_what_is_wrong(tmp_path: Path) -> None:
    moments = [f"write a/{number}.parquet #1" for number in range(5)] + ["rename a -> b #1"]
    assert kinds_of(moments) == [moments[0], moments[4], moments[5]]
    assert len(list(faults_of(Unbroken(SCENARIOS[0], moments, {}, 1.0), ("kill", "cut"), every=True))) == 11

    # A command that reports an error, and one whose result is another one
    broken = Scenario("broken", lambda folder: ["data", "stats", str(folder / "nothing")])
    fault = Fault("full", "open nothing #1", 1)
    assert "did not say what to do" in outcome_of(fault, Unbroken(broken, [], {}, 1.0), tmp_path)
    listing = Scenario("listing", lambda folder: ["recipes"])
    outcome = outcome_of(Fault("clock"), Unbroken(listing, [], {"missing": 1}, 1.0), tmp_path)
    assert outcome == "other content: missing"
    (tmp_path / ".abc.new").mkdir()
    assert half_written(tmp_path) == [".abc.new"]


def test_a_second_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_LOCK_PATIENCE", 0.05)
    with (
        run_folder.used_alone(tmp_path / "run"),
        pytest.raises(TrainingError, match=r"Another run uses .*run: wait until it ends, or choose another"),
        run_folder.used_alone(tmp_path / "run"),
    ):
        pass
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    for name, lock in (
        ("train", "run/.lock"),
        ("data import", "stores/.shapes.lock"),
        ("data combine", ".combined-combining.lock"),
        ("label", "labels/.lock"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        command = by_name[name].prepare(folder)
        (folder / lock).parent.mkdir(exist_ok=True)
        with locked(folder / lock) as is_alone:
            assert is_alone
            ended = run(Fault(), folder, *command)
        assert ended.code == 1
        assert ended.sentence.startswith("Another ") and "wait until it ends" in ended.sentence, ended


def test_a_folder_is_restored_if_its_replacement_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, new = tmp_path / "model", tmp_path / "new"
    folder.mkdir()
    (folder / "first").touch()
    new.mkdir()
    rename = Path.rename

    def end(path: Path, target: Path) -> Path:
        if path == new:
            raise InvalidInputError("the process ends here")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", end)
    with pytest.raises(InvalidInputError):
        replace_folder(new, folder)
    assert not folder.exists()
    monkeypatch.undo()
    restore_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["first"]
    replace_folder(new, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert not list(folder.iterdir())
