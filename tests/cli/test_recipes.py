"""`mdetr recipes`: a list of 80 columns, and copies that replace nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdetr.training.recipe_file import FOLDER, recipe_names
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_recipes_are_listed_with_a_line_each_in_80_columns(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, output, _ = command("recipes")
    assert code == 0
    heading, *lines = output.splitlines()
    assert heading.split() == ["name", "description"]
    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(len(line.split()) > 2 and len(line) <= 80 for line in lines)
    assert "finetune " in output
    assert "Your own data" in output


def test_a_recipe_is_copied_here_and_a_changed_copy_is_kept(command: Command) -> None:
    code, output, _ = command("recipes", "finetune")
    assert code == 0
    assert "mdetr train finetune.yaml" in output
    copy = Path("finetune.yaml")
    assert copy.read_bytes() == (FOLDER / "finetune.yaml").read_bytes()
    copy.write_text("seed: 3")
    code, _, error = command("recipes", "finetune")
    assert code == 1
    assert error == "mdetr: finetune.yaml already exists; move it away, or add --overwrite.\n"
    assert copy.read_text() == "seed: 3"
    assert command("recipes", "finetune", "--overwrite")[0] == 0
    assert copy.read_bytes() == (FOLDER / "finetune.yaml").read_bytes()


def test_an_unknown_recipe_is_not_copied(command: Command) -> None:
    code, _, error = command("recipes", "clevr-tny")
    assert code == 1
    assert error == "mdetr: There is no recipe clevr-tny: did you mean clevr-tiny?\n"
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_train_and_evaluate_take_a_name(command: Command, name: str) -> None:
    """The recipe is read: what is missing are its stores, of which evaluation needs those of validation."""
    code, _, error = command(
        name, "clevr-tiny", *(("--model", "x") if name == "evaluate" else ("--dry-run",))
    )
    assert code == 1
    assert "stores/clevr-val" in error
    assert ("stores/clevr-train" in error) == (name == "train")
