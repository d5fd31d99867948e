"""A document's blocks and commands, and running them in order in one folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mdetr.cli.main import main

ROOT = Path(__file__).parents[2]
PYTHON, SHELL, SESSION = "python", "bash", "console"
OTHER = ("bibtex", "json", "csv", "yaml", "mermaid", "text")  # what is only to be read
PROMPT = "$ "


@dataclass(frozen=True)
class Instead:
    """Why a command is not run as it is written.

    command: what is run in its place; if left out, its options are checked only.
    """

    reason: str
    command: str | None = None


@dataclass(frozen=True)
class Block:
    """A fenced block of a document. line: the number of its first line, from 1."""

    language: str
    line: int
    text: str


@dataclass
class Ran:
    """What a document left behind. names: the variables of its Python blocks. output: of its commands."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    output: dict[str, str] = field(default_factory=dict)


def blocks_of(document: str) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    language, start, inside = "", 0, []
    for number, line in enumerate((ROOT / document).read_text().splitlines(), start=1):
        if not line.strip().startswith("```"):
            inside.append(line)
        elif start:
            yield Block(language, start, "\n".join(inside))
            start = 0
        else:
            language, start, inside = line.strip().strip("`"), number + 1, []
    assert not start, f"the block of {document} at line {start} does not end"


def spans_of(document: str) -> list[str]:
    """The code within sentences and tables, such as `mdetr models`."""
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands_of(block: Block) -> Iterator[tuple[int, str]]:
    """The commands of a block without their comments, each with its line; \\ joins lines.

    All lines of a shell block are commands; in a session those after a prompt.
    """
    lines = block.text.splitlines()
    if block.language == SESSION:
        lines = [line.removeprefix(PROMPT) if line.startswith(PROMPT) else "" for line in lines]
    for place in range(len(lines)):
        if place and lines[place - 1].endswith("\\"):
            continue
        end = place
        while lines[end].endswith("\\"):
            end += 1
        whole = " ".join(part.removesuffix("\\").strip() for part in lines[place : end + 1])
        if shlex.split(whole, comments=True):
            yield block.line + place, shlex.join(shlex.split(whole, comments=True))


def all_commands(document: str) -> list[str]:
    """The commands of all blocks of a document."""
    blocks = [block for block in blocks_of(document) if block.language in (SHELL, SESSION)]
    return [command for block in blocks for _, command in commands_of(block)]


def sessions_of(document: str) -> dict[str, str]:
    """The command of each session of a document, with the output that the document shows."""
    shown: dict[str, str] = {}
    for block in blocks_of(document):
        if block.language == SESSION:
            command, _, output = block.text.removeprefix(PROMPT).partition("\n")
            shown[shlex.join(shlex.split(command))] = output
    return shown


@dataclass(frozen=True)
class Runner:
    """Runs a document in a folder that holds what it names.

    exceptions: command -> what is run instead. failures: commands that end with 1. places: addresses that
    cannot be reached in a test -> what Python blocks read instead.
    """

    exceptions: Mapping[str, Instead] = field(default_factory=dict)
    failures: frozenset[str] = frozenset()
    places: Mapping[str, str] = field(default_factory=dict)

    def run(self, document: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Ran:
        """Run all blocks; the first that fails is named with its line."""
        ran = Ran(folder, {"__name__": "__main__"})
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("MDETR_HOME", str(folder / "home"))
            patch.setenv("COLUMNS", "80")
            for block in blocks_of(document):
                if block.language == PYTHON:
                    self._run_python(document, block, ran)
                elif block.language in (SHELL, SESSION):
                    for line, command in commands_of(block):
                        self._run_command(f"{document}:{line}", command, capsys, ran)
        return ran

    def _run_python(self, document: str, block: Block, ran: Ran) -> None:
        text = block.text
        for address, local in self.places.items():
            text = text.replace(address, local)
        # The empty lines let a traceback show the document's own lines.
        code = compile("\n" * (block.line - 1) + text, str(ROOT / document), "exec")
        exec(code, ran.names)

    def _run_command(self, place: str, written: str, capsys: pytest.CaptureFixture[str], ran: Ran) -> None:
        instead = self.exceptions.get(written, Instead("", written))
        command = instead.command or f"{written} --help"
        program, *arguments = shlex.split(command)
        if program == "mdetr":
            capsys.readouterr()
            code = main(arguments)
            captured = capsys.readouterr()
            said = captured.err or captured.out
            assert code == (written in self.failures), f"{place}: {command} ended with {code}: {said}"
            ran.output[command] = captured.out
        else:
            assert command.endswith("--help"), (
                f"{place}: only mdetr is run here; list {program} in EXCEPTIONS"
            )
