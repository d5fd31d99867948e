"""The command as a whole: its exit codes, and one plain sentence where something is wrong."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mdetr import __version__
from mdetr.cli import inputs
from mdetr.cli.main import app
from tests.cli.conftest import Command


def test_it_runs_as_a_program_and_tells_its_version() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mdetr", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == __version__


def test_help_lists_the_commands(command: Command) -> None:
    code, output, _ = command("--help")
    assert code == 0
    for name in ("ground", "refer", "answer", "segment", "detect", "models", "train", "evaluate", "data"):
        assert name in output


def _commands(group: Any, name: str = "mdetr") -> Iterator[tuple[str, Any]]:
    """The command and all below it, each with what is typed for it."""
    yield name, group
    for word, command in getattr(group, "commands", {}).items():
        yield from _commands(command, f"{name} {word}")


COMMANDS = dict(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_begins_with_what_the_command_does_and_has_an_example(command: Command, name: str) -> None:
    code, output, _ = command(*name.split()[1:], "--help")
    assert code == 0
    first, *paragraphs = inspect.cleandoc(COMMANDS[name].help).split("\n\n")
    assert len(first.split()) >= 4
    assert first.endswith(".")
    assert first.split()[0] in output
    assert f"Example: {name}" in output
    # Typer keeps the ends of lines after the first paragraph, which in 80 columns would be broken again.
    assert all(len(line) <= 78 for text in paragraphs for line in text.splitlines()[:-1])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_call_that_the_command_takes(name: str) -> None:
    (example,) = re.findall(r"Example: (mdetr .+)", inspect.cleandoc(COMMANDS[name].help))
    assert example.startswith(name)
    command, words = COMMANDS["mdetr"], shlex.split(example)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises where an option or an argument does not exist


def test_completion_can_be_installed(command: Command) -> None:
    _, output, _ = command("--help")
    assert "--install-completion" in output


def test_a_wrong_call_exits_with_two(command: Command) -> None:
    code, _, error = command("ground", "--no-such-option")
    assert code == 2
    assert "no-such-option" in error


def test_what_fails_exits_with_one_and_one_sentence(command: Command, picture: Path) -> None:
    code, output, error = command("ground", picture, "a cube", "--model", "no-such-model")
    assert code == 1
    assert output == ""
    assert error.startswith("mdetr: There is no model 'no-such-model'")
    assert error.count("\n") == 1


def test_an_unforeseen_error_is_named_and_shown_in_full_with_debug(
    command: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(inputs, "find_images", fail)
    code, _, error = command("ground", picture, "a cube")
    assert code == 1
    assert error == "mdetr: Unexpected ZeroDivisionError: by zero (run again with --debug to see where)\n"
    with pytest.raises(ZeroDivisionError):
        command("ground", picture, "a cube", "--debug")


def test_verbose_tells_how_the_model_runs_wherever_it_stands(command: Command, picture: Path) -> None:
    call = ("ground", picture, "a cube", "--device", "cpu", "--threshold", 1)
    for arguments in (("--verbose", *call), (*call, "--verbose")):
        code, _, error = command(*arguments)
        assert code == 0
        assert re.search(r"^mdetr: running on cpu in float32, \d+ threads, frozen norms folded", error, re.M)
    _, _, error = command(*call)
    assert "running on" not in error  # it ends with the call


def test_an_interruption_exits_as_shells_expect(
    command: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inputs, "find_images", interrupt)
    assert command("ground", picture, "a cube")[0] == 130


def test_convert_says_what_is_wrong_with_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "released.pth").write_text("not a checkpoint")
    code, _, error = command("convert", tmp_path / "released.pth", tmp_path / "model")
    assert code == 1
    assert "released.pth" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_the_home_folder_is_found_after_an_equals_sign_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, error = command("ground", "--example", "--output=~/found.png", "--json=~/found.json")
    assert code == 0, error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "found.png"]
