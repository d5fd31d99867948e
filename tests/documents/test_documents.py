"""Every snippet and command of the documents does what it says, run as it is written.

A document's Python blocks and commands are run in order, in one folder that holds what they name
(`workplace.py`), and all Python blocks share their variables. A command that cannot be run here is listed in
`exceptions.py` with the reason and, where there is one, its small form; a document that is new is found by
itself. Commands and options that sentences mention must exist.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from typing import Any

import pytest
import typer.main
import yaml
from PIL import Image

from mdetr.cli.main import app
from mdetr.training.recipe_file import load_recipe
from tests.documents.exceptions import EXCEPTIONS, FAILURES, PLACES
from tests.documents.running import (
    OTHER,
    PROMPT,
    PYTHON,
    ROOT,
    SESSION,
    SHELL,
    Ran,
    Runner,
    all_commands,
    blocks_of,
    sessions_of,
    spans_of,
)
from tests.documents.workplace import fill

CARDS = sorted(str(card.relative_to(ROOT)) for card in ROOT.glob("src/mdetr/assets/models/*/README.md"))
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", *PAGES, *CARDS)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs a document in a folder of its own, once."""
    done: dict[str, Ran] = {}

    def run_once(document: str, capsys: pytest.CaptureFixture[str]) -> Ran:
        if document not in done:
            folder = tmp_path_factory.mktemp("reader")
            fill(folder, document)
            runner = Runner(
                EXCEPTIONS.get(document, {}), FAILURES.get(document, frozenset()), PLACES.get(document, {})
            )
            done[document] = runner.run(document, folder, capsys)
        return done[document]

    return run_once


@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_snippet_runs_as_it_is_written(
    document: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(document, capsys)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_list_of_exceptions_is_no_longer_than_it_must_be(document: str) -> None:
    commands, exceptions = all_commands(document), EXCEPTIONS.get(document, {})
    assert set(exceptions) <= set(commands), "an exception is for a line that is no longer there"
    assert FAILURES.get(document, frozenset()) <= set(commands)
    for command, instead in exceptions.items():
        assert instead.reason
        if instead.command is not None:  # the same command, smaller
            assert instead.command != command
            assert shlex.split(instead.command)[:2] == shlex.split(command)[:2]
    python = "".join(block.text for block in blocks_of(document) if block.language == PYTHON)
    assert all(place in python for place in PLACES.get(document, {}))
    assert {*EXCEPTIONS, *FAILURES, *PLACES} <= set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_says_what_it_is(document: str) -> None:
    for block in blocks_of(document):
        assert block.language in (PYTHON, SHELL, SESSION, *OTHER), f"{document}:{block.line}"
        if block.language == SESSION:
            assert block.text.startswith(PROMPT)
        elif block.language == "json":
            for line in block.text.splitlines():
                json.loads(line)
        elif block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
        elif block.language == "csv":
            assert len({len(row) for row in csv.reader(block.text.splitlines())}) == 1


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_that_sentences_mention_exist(document: str) -> None:
    for span in spans_of(document):
        if span.startswith("mdetr "):
            command: Any = typer.main.get_command(app)
            _, *words = shlex.split(span)
            while words and getattr(command, "commands", {}) and not words[0].startswith("-"):
                assert words[0] in command.commands, f"{document}: {span}"
                command = command.commands[words.pop(0)]
            options = {name for option in command.params for name in option.opts} | {"--help"}
            assert {word for word in words if word.startswith("--")} <= options, f"{document}: {span}"
        elif span.startswith("--set ") and "key=value" not in span:
            load_recipe("finetune", [span.removeprefix("--set ")])


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ("```python\n1 / 0\n```", ZeroDivisionError, "division by zero"),
        ("text\n```bash\n\nmdetr models --no-such-option  # fails\n```", AssertionError, ":4: mdetr models"),
        ("```console\n$ mdetr modles\noutput\n```", AssertionError, ":2: mdetr modles"),
        ("```bash\npip install mdetr\n```", AssertionError, "list pip in EXCEPTIONS"),
        ("```bash\nmdetr models", AssertionError, "does not end"),
    ],
)
def test_a_snippet_that_fails_is_named(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], block: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "page.md").write_text(block)
    with pytest.raises(error, match=message):
        Runner().run(str(tmp_path / "page.md"), tmp_path, capsys)


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


@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", ["docs/data.md", "docs/faq.md", "docs/index.md"])
def test_a_session_shows_what_its_commands_print(
    document: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    output, shown = run(document, capsys).output, sessions_of(document)
    assert shown
    for command, lines in shown.items():
        printed = "\n".join(line.rstrip() for line in output[command].strip("\n").splitlines())
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", lines)
        for number, other in zip(NUMBER.findall(printed), NUMBER.findall(lines), strict=True):
            # Boxes may differ by a pixel on another processor, scores by a hundredth
            assert float(number) == pytest.approx(float(other), abs=0.011 if "." in number else 1), command


@pytest.mark.timeout(900)
def test_grounding_dinos_calls_give_results_of_the_same_form(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("docs/coming-from-grounding-dino.md", capsys).names
    (theirs,), (ours,) = names["dino_results"], names["results"]
    assert set(ours) == set(theirs)
    assert ours["boxes"].shape == (1, 4) and ours["scores"].shape == (1,)
    assert ours["text_labels"] == list(names["result"].phrases) == ["a brown cat"]
    assert ours["boxes"].tolist() == pytest.approx(names["result"].boxes, abs=1)
    assert {frozenset(entry) for entry in (*names["found"], *names["dino_found"])} == {
        frozenset(("score", "label", "box"))
    }


@pytest.mark.timeout(900)
def test_the_answers_show_what_comes_out(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("docs/faq.md", capsys).names
    assert names["result"][0].spans == ((0, 11),)
    assert names["result"].text[0:11] == "a brown cat"
    assert names["message"].startswith(
        "The text has 402 tokens, but the model has only 256 positions; shorten it"
    )
    assert [len(result) for result in names["results"]] == [1, 0]
    assert names["boxes"] and max(x1 for _, _, x1, _ in names["boxes"]) > 300  # from both tiles


@pytest.mark.timeout(900)
def test_the_explanation_of_the_model_shows_its_shapes_and_probabilities(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("docs/how-it-works.md", capsys).names
    assert names["image"].sequence.shape == (1, 14 * 20, 256)
    assert names["image"].map_padding.shape == (1, 14, 20)
    assert names["text"].sequence.shape == (1, 9, 256)
    assert names["output"].pred_boxes.shape == (1, 40, 4)
    assert names["output"].logits.shape == (1, 40, 256)
    assert names["scores"][names["best"]].item() == pytest.approx(0.92, abs=0.01)
    predicted = names["probabilities"][names["best"], 1:4].tolist()
    assert predicted == pytest.approx([0.30, 0.31, 0.32], abs=0.01)
    assert names["matches"].query.tolist() == [0, 1]
    assert names["matches"].target.tolist() == [1, 0]
