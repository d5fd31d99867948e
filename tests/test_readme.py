"""Every snippet of the documents does what it says, run as it is written.

A document's Python blocks and lines of shell are run in order, in one folder that holds what they name (see
`workplace`), and all Python blocks share their variables. To have another document tested, add it to
DOCUMENTS, and what it names to `workplace`. A line that cannot be run here is listed in EXCEPTIONS with the
reason; the options of a command that is listed are checked all the same, and so is that the line is still
there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import mdetr
from mdetr.cli.main import main
from mdetr.image_processor import MdetrImageProcessor
from mdetr.processor import MdetrProcessor, roberta_tokenizer
from tests.model.models import OPTIONS, small_model
from tests.model.reference import FOLDER as RELEASED

ROOT = Path(__file__).parents[1]
ASSETS = Path(mdetr.__file__).parent / "assets"
CARD = "src/mdetr/assets/models/clevr-tiny/README.md"
PHOTO_CARD = "src/mdetr/assets/models/photo-tiny/README.md"
DOCUMENTS = ("README.md", CARD, PHOTO_CARD)

PYTHON = ("python",)
SHELL = ("bash",)
OTHER = ("bibtex",)  # what is only to be read


@dataclass(frozen=True)
class Instead:
    """Why a line of shell is not run as it is written. command: what is run in its place, if anything."""

    reason: str
    command: str | None = None


EXCEPTIONS: dict[str, dict[str, Instead]] = {
    "README.md": {
        "make demo": Instead("sets up an environment; its command is run as the first of the command line's"),
        "make test": Instead("runs this very test"),
        "mdetr data synthesize clevr stores/clevr --scenes 24000 --seed 1 --split train": Instead(
            "draws for an hour", "mdetr data synthesize clevr stores/clevr --scenes 2 --seed 1 --split train"
        ),
        "mdetr data synthesize clevr stores/clevr --scenes 1000 --seed 2 --split val": Instead(
            "draws for minutes", "mdetr data synthesize clevr stores/clevr --scenes 2 --seed 2 --split val"
        ),
        "mdetr train clevr-tiny": Instead("trains for hours", "mdetr train clevr-tiny --dry-run"),
        "mdetr train finetune --set data=mine.jsonl --set model=pretrained-r101": Instead(
            "trains for minutes",
            "mdetr train finetune --set data=mine.jsonl --set model=pretrained-r101 --dry-run",
        ),
    },
}


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


def commands_of(block: Block) -> Iterator[tuple[int, str]]:
    """The lines of shell of a block without their comments, each with its number; \\ joins lines."""
    lines = block.text.splitlines()
    for place in range(len(lines)):
        if place and lines[place - 1].endswith("\\"):
            continue
        end = place
        while lines[end].endswith("\\"):
            end += 1
        whole = " ".join(part.removesuffix("\\").strip() for part in lines[place : end + 1])
        if shlex.split(whole, comments=True):
            yield block.line + place, shlex.join(shlex.split(whole, comments=True))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images, models and files that the documents name; most models know nothing."""
    folder = tmp_path_factory.mktemp("reader")
    picture = Image.open(ASSETS / "demo" / "shapes.png").convert("RGB")
    picture.save(folder / "picture.png")
    shutil.copy(ASSETS / "demo" / "cat.jpg", folder)
    picture.resize((160, 100)).save(folder / "street.jpg")
    (folder / "pictures").mkdir()
    for name in ("one", "two"):
        picture.save(folder / "pictures" / f"{name}.png")
    line = {
        "image": "picture.png",
        "text": "a red cube",
        "boxes": [[284, 174, 379, 279]],
        "phrases": ["a red cube"],
    }
    lines = [line | {"image": f"pictures/{name}.png"} for name in ("one", "two")] + [line] * 2
    (folder / "mine.jsonl").write_text("\n".join(json.dumps(entry) for entry in lines))
    for name in ("path/to/model", "runs/clevr-tiny-qa/model"):
        shutil.copytree(ASSETS / "models" / "clevr-tiny", folder / name)
    # Released models, as if they had been downloaded.
    downloaded = folder / "home" / "models"
    _save_random_model(downloaded / "gqa-r101")
    for name in ("pretrained-r101", "phrasecut-r101", "lvis10-r101"):
        (downloaded / name).symlink_to(downloaded / "gqa-r101")
    (folder / "models").mkdir()
    _save_released_file(folder / "checkpoint.pth")
    return folder


def _save_random_model(folder: Path) -> None:
    """A small model with every head, which finds something everywhere."""
    model = small_model(**OPTIONS)
    torch.nn.init.constant_(model.token_head.no_object.bias, -9)
    model.save_pretrained(folder)
    MdetrProcessor(
        MdetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}),
        roberta_tokenizer(),
        answer_types=OPTIONS["answer_types"],
        answer_vocabulary=OPTIONS["answer_vocabulary"],
    ).save_pretrained(folder)


def _save_released_file(path: Path) -> None:
    """A file with the keys, shapes and arguments of a released one; all weights are the same zero."""
    layout = json.loads((RELEASED / "layout" / "clevrref_r18.json").read_text())
    state = {
        key: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for key, (shape, dtype) in layout["keys"].items()
    }
    args = argparse.Namespace(**layout["args"])
    torch.save({"model": state, "model_ema": state, "optimizer": {}, "epoch": 1, "args": args}, path)


@pytest.fixture(scope="module")
def run(workplace: Path) -> Any:
    """Runs a document, once."""
    done: dict[str, Ran] = {}

    def run_once(document: str, capsys: pytest.CaptureFixture[str]) -> Ran:
        if document not in done:
            done[document] = run_document(document, workplace, capsys)
        return done[document]

    return run_once


def run_document(document: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Ran:
    """Run all blocks of a document in a folder; the first that fails is named with its line."""
    ran, exceptions = Ran(folder, {"__name__": "__main__"}), EXCEPTIONS.get(document, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MDETR_HOME", str(folder / "home"))
        for block in blocks_of(document):
            if block.language in PYTHON:
                # The empty lines let a traceback show the document's own lines.
                code = compile("\n" * (block.line - 1) + block.text, str(ROOT / document), "exec")
                exec(code, ran.names)
            elif block.language in SHELL:
                for line, command in commands_of(block):
                    instead = exceptions.get(command, Instead("", command))
                    _run_command(f"{document}:{line}", instead.command or f"{command} --help", capsys, ran)
    return ran


def _run_command(place: str, command: str, capsys: pytest.CaptureFixture[str], ran: Ran) -> None:
    program, *arguments = shlex.split(command)
    if program == "mdetr":
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        assert code == 0, f"{place}: {command} ended with {code}: {captured.err or captured.out}"
        ran.output[command] = captured.out
    else:
        assert command.endswith("--help"), f"{place}: only mdetr is run here; list {program} in EXCEPTIONS"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_snippet_runs_as_it_is_written(
    document: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(document, capsys)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_list_of_exceptions_is_no_longer_than_it_must_be(document: str) -> None:
    blocks = list(blocks_of(document))
    assert {block.language for block in blocks} <= {*PYTHON, *SHELL, *OTHER}
    commands = [command for block in blocks if block.language in SHELL for _, command in commands_of(block)]
    exceptions = EXCEPTIONS.get(document, {})
    assert set(exceptions) <= set(commands), "an exception is for a line that is no longer there"
    for command, instead in exceptions.items():
        assert instead.reason
        if instead.command is not None:  # the same command, smaller
            assert instead.command != command
            assert shlex.split(instead.command)[:2] == shlex.split(command)[:2]
    assert set(EXCEPTIONS) <= set(DOCUMENTS)


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ("```python\n1 / 0\n```", ZeroDivisionError, "division by zero"),
        ("text\n```bash\n\nmdetr models --no-such-option  # fails\n```", AssertionError, ":4: mdetr models"),
        ("```bash\npip install mdetr\n```", AssertionError, "list pip in EXCEPTIONS"),
        ("```bash\nmdetr models", AssertionError, "does not end"),
    ],
)
def test_a_snippet_that_fails_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], block: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "page.md").write_text(block)
    with pytest.raises(error, match=message):
        run_document(str(tmp_path / "page.md"), tmp_path, capsys)


@pytest.mark.timeout(900)
def test_the_readme_shows_what_comes_out(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run("README.md", capsys)
    assert ran.names["output"].pred_boxes.shape == (1, 25, 4)
    assert [found.phrase for found in ran.names["result"]] == ["a brown cat"]
    assert Image.open(ran.folder / "found.png").width >= 480
    assert json.loads((ran.folder / "found.json").read_text())["text"].startswith("a brown cat")
    assert len(list((ran.folder / "found").glob("*.png"))) == 4  # two images, two texts
    assert (ran.folder / "models" / "mine" / "model.safetensors").is_file()
    assert Image.open(ran.folder / "sheet.png").width > 100
    (scores,) = (output for command, output in ran.output.items() if command.startswith("mdetr evaluate"))
    assert "recall@1" in scores
