"""Tests of `mdetr data check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Command

LINE = {"image": "a.png", "text": "a cat", "boxes": [[9, 7, 80, 60]], "phrases": ["cat"]}


def _lines(file: Path, *changes: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (640, 480)).save(file.parent / "a.png")
    file.write_text("\n".join(json.dumps(LINE | change) for change in changes))
    return file


def test_good_data_pass(command: Command, tmp_path: Path) -> None:
    file = _lines(tmp_path / "mine.jsonl", {})
    code, output, error = command("data", "check", file)
    assert (code, output, error) == (0, f"No problems in 1 record of {file}.\n", "")


def test_errors_are_shown_with_counts_and_examples_and_fail(command: Command, tmp_path: Path) -> None:
    outside = [{"id": f"far-{n}", "boxes": [[9, 7, 800, 60]]} for n in range(5)]
    file = _lines(tmp_path / "mine.jsonl", {"text": "[red] catnip", "phrases": [[[6, 9]]]}, *outside)
    code, output, _ = command("data", "check", file)
    assert code == 1
    lines = [" ".join(line.replace("│", " ").split()) for line in output.splitlines()]
    assert lines[0] == f"6 records of {file}, of which 5 cannot be used"
    assert "error 5 boxes that are empty or leave their image" in lines
    assert "warning 1 spans that cut words or hold spaces at their ends" in lines
    assert "... and 2 more." in lines
    assert f"{file}, record 1: 'cat' is a part of 'catnip'" in lines
    assert sum("leaves the image of 640 x 480 pixels" in line for line in lines) == 3


def test_a_misspelt_field_is_an_error_as_in_an_import(command: Command, tmp_path: Path) -> None:
    file = _lines(tmp_path / "mine.jsonl", {"phrase": ["cat"]})
    code, output, _ = command("data", "check", file)
    assert code == 1
    assert output.startswith(f"1 record of {file}, of which 1 cannot be used\n")
    refusal = next(line.strip() for line in output.splitlines() if "phrase" in line)
    assert refusal.startswith(f"{file}, line 1: unknown field 'phrase'; the fields are answer, ")
    assert command("data", "import", "jsonl", file, tmp_path / "store")[::2] == (1, f"mdetr: {refusal}\n")


@pytest.mark.parametrize(("options", "expected"), [((), 0), (("--strict",), 1)])
def test_warnings_fail_only_when_asked(
    command: Command, tmp_path: Path, options: tuple[str, ...], expected: int
) -> None:
    file = _lines(tmp_path / "mine.jsonl", {}, {"text": "a dog", "boxes": [], "phrases": []})
    code, output, _ = command("data", "check", file, *options)
    assert code == expected
    assert "texts without a box" in output


@pytest.mark.parametrize("options", [(), ("--strict",)])
def test_notes_never_fail(command: Command, tmp_path: Path, options: tuple[str, ...]) -> None:
    file = _lines(tmp_path / "mine.jsonl", {"text": "the left cat"})
    code, output, _ = command("data", "check", file, *options)
    assert code == 0
    assert "texts that name a side, such as left or right (en 1)" in output


def test_findings_are_written_as_json(command: Command, tmp_path: Path) -> None:
    file = _lines(tmp_path / "mine.jsonl", {"boxes": [[0.1, 0.1, 0.5, 0.5]]})
    code, output, _ = command("data", "check", file, "--json", "-")
    assert code == 1
    (finding,) = json.loads(output)["findings"]
    assert (finding["check"], finding["severity"], finding["count"]) == ("fractions", "error", 1)
    assert finding["examples"] == [
        {
            "record": "1",
            "what": "box (0.1, 0.1, 0.5, 0.5) in an image of 640 x 480 pixels",
            "where": str(file),
        }
    ]


def test_several_are_checked_together_and_the_model_gives_the_limits(
    command: Command, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    train = _lines(tmp_path / "train.jsonl", {"boxes": LINE["boxes"] * 26, "phrases": ["cat"] * 26})
    val = _lines(tmp_path / "val.jsonl", {"text": "one cat"})
    assert command("data", "import", "jsonl", train, store)[0] == 0
    code, output, _ = command("data", "check", store, val, val, "--model", "clevr-tiny", "--json", "-")
    assert code == 1
    found = json.loads(output)
    assert (found["records"], found["data"]) == (2, [str(store), str(val)])
    counts = {finding["check"]: finding["count"] for finding in found["findings"]}
    assert counts["leaked-images"] == 1
    assert counts["many-boxes"] == 1  # clevr-tiny has 25 queries


def test_a_wrong_call_is_answered_in_a_sentence(command: Command, tmp_path: Path) -> None:
    file = _lines(tmp_path / "mine.jsonl", {})
    code, _, error = command("data", "check", file, "--images", tmp_path / "none")
    assert (code, error) == (1, f"mdetr: There is no folder {tmp_path / 'none'} with images.\n")
    code, _, error = command("data", "check", file, "--model", "clever-tiny")
    assert code == 1
    assert "There is no model 'clever-tiny'" in error
