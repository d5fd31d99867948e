"""Where results go: what cannot be written is told before the work, and what is written is always whole."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from mdetr.cli.outputs import JsonWriter, plan_outputs
from mdetr.errors import InvalidInputError
from mdetr.inference.grounder import Mdetr
from tests.cli.conftest import Command

ONE, TWO = [Path("a.png")], [Path("a.png"), Path("b.png")]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    for image in TWO:
        Image.new("RGB", (20, 10)).save(tmp_path / image)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("images", "output", "json_file", "message"),
    [
        (ONE, "found", None, "found has no image suffix; choose a .png or .jpg file"),
        (ONE, "found.psd", None, "found.psd cannot be written: .psd files can only be read"),
        (ONE, "found.xbm", None, "found.xbm cannot be written"),
        (ONE, "file/found.png", None, "file is a file, so"),
        (ONE, "a.png", None, "a.png is one of the images"),
        (ONE, "x" * 5000 + "/a.png", None, "File name too long"),
        (
            TWO,
            "out.png",
            None,
            "out.png is the name of a single picture, but there are 2 to write; choose a folder",
        ),
        (TWO, "file", None, "file is a file, so"),
        (TWO, ".", None, "a.png is one of the images"),
        ([Path("a.png"), Path("there/a.png")] * 2, "out", None, "would overwrite each other"),
        (ONE, None, ".", "is a folder; choose a .json or .jsonl file in it"),
        (ONE, None, "", "is a folder"),
        (ONE, None, "there/", "is a folder"),
        (ONE, None, "nowhere/x.json", "There is no folder nowhere to write x.json to; create it first"),
        (ONE, None, "x.png", "has the name of a picture"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_model_is_loaded(
    images: list[Path],
    output: str | None,
    json_file: str | None,
    message: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Mdetr, "from_pretrained", pytest.fail)
    before = sorted(os.listdir())
    options = () if output is None else ("--output", output)
    options += () if json_file is None else ("--json", json_file)
    for name in ("ground", "detect"):
        code, printed, error = command(name, *images, "a cube", "--model", "clevr-tiny", *options)
        assert (code, printed) == (1, "")
        assert message in error
        assert error.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_one_picture_goes_to_a_file_and_several_into_a_folder() -> None:
    def paths(images: list[Path], output: str, texts: int = 1, has_folder: bool = False) -> list[list[str]]:
        planned = plan_outputs(images, texts, output, None, has_folder)
        return [[str(path) for path in of_image] for of_image in planned.pictures]

    assert paths(ONE, "found.jpg") == [["found.jpg"]]
    assert paths(ONE, "new/found.jpg") == [["new/found.jpg"]]
    assert paths(ONE, "there") == [["there/a.png"]]
    assert paths(ONE, "found/") == [["found/a.png"]]
    assert paths(ONE, "found", has_folder=True) == [["found/a.png"]]
    assert paths(ONE, "found.jpg", has_folder=True) == [["found.jpg"]]
    assert paths(TWO, "found") == [["found/a.png"], ["found/b.png"]]
    assert paths(ONE, "found", texts=2) == [["found/a-1.png", "found/a-2.png"]]
    assert paths([Path("a.png"), Path("a.jpg")], "found") == [["found/a.png.png"], ["found/a.jpg.png"]]
    assert not Path("new").exists()  # nothing is made before there is something to write


@pytest.mark.parametrize(
    "arguments",
    [("data", "stats", "no-store"), ("evaluate", "no-recipe.yaml")],
    ids=["stats", "evaluate"],
)
def test_other_commands_check_their_json_first_too(command: Command, arguments: tuple[str, ...]) -> None:
    code, _, error = command(*arguments, "--json", "nowhere/x.json")
    assert code == 1
    assert "There is no folder nowhere to write x.json to" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "models/nothing"), "There is no folder 'models/nothing'"),
        (("--model", "clevr-tiny", "--device", "gpu"), "There is no type of device 'gpu'"),
    ],
)
def test_a_model_or_device_that_is_not_there_is_told_before_data_are_read(
    command: Command, options: tuple[str, ...], message: str
) -> None:
    code, output, error = command(
        "evaluate", "finetune", "--set", "data=there", *options
    )  # there is no store
    assert (code, output, error.count("\n")) == (1, "", 1)
    assert message in error


def test_answers_for_a_server_and_a_sheet_are_checked_first_too(command: Command) -> None:
    code, _, error = command("evaluate", "no-recipe.yaml", "--output", "file")
    assert code == 1
    assert "file is a file, so tables cannot be written to it; choose a folder" in error
    code, _, error = command("evaluate", "no-recipe.yaml", "--submission", "answers.csv")
    assert code == 1
    assert "Expected a .json file (GQA) or a .txt file (CLEVR)" in error
    code, _, error = command("data", "view", "no-store", "--output", "sheet.psd")
    assert code == 1
    assert "sheet.psd cannot be written" in error


def test_a_file_is_valid_json_after_every_entry() -> None:
    Path("found.json").write_text("older")
    with JsonWriter("found.json") as writer:
        assert Path("found.json").read_text() == "older"
        for number in range(3):
            writer.add({"number": number, "text": "Würfel \udce9"})
            assert [entry["number"] for entry in json.loads(Path("found.json").read_text())] == list(
                range(number + 1)
            )
    assert json.loads(Path("found.json").read_text())[2]["text"] == "Würfel \udce9"
    assert sorted(os.listdir()) == ["a.png", "b.png", "file", "found.json", "there"]


def test_between_entries_that_are_printed_messages_have_lines_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for count in (1, 3):
        with JsonWriter("-", is_one=count == 1) as writer:
            for number in range(count):
                writer.add({"number": number, "text": "a cube"})
                print(f"a message {number}", flush=True)  # as it looks with 2>&1
        lines = capsys.readouterr().out.splitlines()
        messages = [line for line in lines if "message" in line]
        assert messages == [f"a message {number}" for number in range(count)]
        printed = json.loads("\n".join(line for line in lines if line not in messages))
        entries = [printed] if count == 1 else printed
        assert [entry["number"] for entry in entries] == list(range(count))


def test_lines_stand_by_themselves() -> None:
    with JsonWriter("found.jsonl") as writer:
        for number in range(3):
            writer.add({"number": number})
            lines = Path("found.jsonl").read_text().splitlines()
            assert [json.loads(line)["number"] for line in lines] == list(range(number + 1))


def test_one_entry_is_an_object_and_none_is_no_file() -> None:
    with JsonWriter("found.json", is_one=True) as writer:
        pass
    assert not Path("found.json").exists()
    with JsonWriter("found.json", is_one=True) as writer:
        writer.add({"number": 1})
    assert json.loads(Path("found.json").read_text()) == {"number": 1}


@contextmanager
def files_of_100_bytes() -> Iterator[None]:
    """Nothing longer can be written, as on a full disk; not even by pytest, so it ends within the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["found.json", "found.jsonl"])
def test_a_full_disk_leaves_the_entries_that_were_finished(name: str) -> None:
    with (
        pytest.raises(InvalidInputError, match=r"could not be written to found\..* \(File too large\)"),
        files_of_100_bytes(),
        JsonWriter(name) as writer,
    ):
        for number in range(10):
            writer.add({"number": number, "text": "t" * 10})
    content = Path(name).read_text()
    entries = json.loads(content) if name == "found.json" else [json.loads(x) for x in content.splitlines()]
    assert [entry["number"] for entry in entries] == [0, 1]


def test_a_device_is_written_to_as_it_is() -> None:
    with JsonWriter(os.devnull) as writer:
        writer.add({"number": 1})
    assert Path(os.devnull).is_char_device()
    with pytest.raises(InvalidInputError, match="No space left"), JsonWriter("/dev/full") as writer:
        writer.add({"number": 1})
