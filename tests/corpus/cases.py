"""A case of the corpus: an odd input, how it is given to a public entry point, and what must come of it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdetr.errors import MdetrError

if TYPE_CHECKING:
    from mdetr import Mdetr

KINDS = (
    *("images", "objects", "texts", "boxes", "annotations", "entries", "recipes"),
    *("stores", "checkpoints", "models", "paths"),
)
OUTPUT = "output"  # what a case writes in its folder, which must not exist after a refusal
LONGEST = 500  # characters of a message that is still one plain sentence
_TRACES = re.compile(r"Traceback|Unexpected \w+|\w+(Error|Exception)\(|object at 0x|\n")
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}(\..*)?")


@dataclass(frozen=True)
class Refused:
    """The input is refused with a message that has these words."""

    words: str


@dataclass(frozen=True)
class Case:
    """One odd input.

    Attributes:
        name: What is odd about it.
        act: Makes the input in an empty folder, gives it to a public entry point, returns what comes of it.
        expected: The value that is right, or a refusal.
    """

    name: str
    act: Callable[[Path], object]
    expected: object


@dataclass(frozen=True)
class Outcome:
    """What came of a case: "right", "refused" or "wrong", and the value, the message or what is wrong."""

    case: str
    verdict: str
    detail: str


def cases_of(kind: str) -> list[Case]:
    """Return the cases of a kind, whose names differ."""
    cases: list[Case] = import_module(f"tests.corpus.{kind}").CASES
    assert len({case.name for case in cases}) == len(cases)
    return cases


def prepare(kind: str) -> None:
    """Make what the cases of a kind share, such as a trained model, if its module has a `prepare`."""
    getattr(import_module(f"tests.corpus.{kind}"), "prepare", lambda: None)()


def judge(case: Case, folder: Path) -> Outcome:
    """Run a case in an empty folder, and compare what comes of it with what is expected."""
    try:
        value = case.act(folder)
    except MdetrError as error:
        return _judge_refusal(case, folder, str(error))
    except BaseException as error:
        return Outcome(case.name, "wrong", f"{type(error).__name__}: {str(error)[:400]}")
    if isinstance(case.expected, Refused) or value != case.expected:
        return Outcome(case.name, "wrong", f"gave {value!r:.400}, not {case.expected!r:.400}")
    return Outcome(case.name, "right", f"{value!r:.200}")


def _judge_refusal(case: Case, folder: Path, message: str) -> Outcome:
    """Check that a refusal was expected, is a plain sentence, and leaves nothing half-written."""
    problem = None
    if not isinstance(case.expected, Refused):
        problem = f"is refused, but {case.expected!r:.200} is right"
    elif case.expected.words not in message:
        problem = f"is refused without the words {case.expected.words!r}"
    elif trace := _TRACES.search(message):
        problem = f"is refused with {trace.group()!r}, which is no plain sentence"
    elif not message.endswith((".", "!", "?", ")", '"', "'")) and len(message.split()) < 4:
        problem = "is refused without a sentence"
    elif len(message) > LONGEST + len(str(folder)):
        problem = f"is refused with {len(message)} characters"
    elif left := [path.name for path in folder.rglob("*") if _is_left_over(path)]:
        problem = f"is refused, but leaves {', '.join(left)} behind"
    if problem is not None:
        return Outcome(case.name, "wrong", f"{problem}: {message[:400]}")
    return Outcome(case.name, "refused", message.replace(f"{folder}/", ""))


def _is_left_over(path: Path) -> bool:
    return path.name.startswith(OUTPUT) or _TEMPORARY.fullmatch(path.name) is not None


@cache
def model() -> Mdetr:
    """The small model that comes with the package."""
    from mdetr import Mdetr

    return Mdetr.from_pretrained("clevr-tiny")


def command(*arguments: object) -> str:
    """Run the command `mdetr` in this process, and return what it prints; raise MdetrError if it fails."""
    code, printed, complaint = run_command(*arguments)
    if code:
        lists, _, sentence = complaint.strip().rpartition("mdetr: ")
        assert sentence, lists
        raise MdetrError(sentence)
    return printed + complaint


def run_command(*arguments: object) -> tuple[int, str, str]:
    """Run the command `mdetr` in this process, and return its exit code, standard output and errors."""
    main = _main()
    printed, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(complaint):
        code = main([str(argument) for argument in arguments])
    return code, printed.getvalue(), complaint.getvalue()


@cache
def _main() -> Callable[[list[str]], int]:
    """The function of the command, with the tree of subcommands built once instead of at every call."""
    import typer.main

    program = import_module("mdetr.cli.main")
    program.app = typer.main.get_command(program.app)
    return program.main


def refused(names: dict[str, Callable[[Path], Any]], words: str) -> list[Case]:
    """Cases that are refused with the same words."""
    return [Case(name, act, Refused(words)) for name, act in names.items()]
