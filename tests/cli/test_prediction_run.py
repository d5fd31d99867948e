"""What all commands that look at images do alike: folders, unreadable files, texts, memory, devices."""

from __future__ import annotations

import base64
import gc
import json
import os
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mdetr.cli.prediction_run import PredictionRun
from mdetr.inference.grounder import Mdetr
from mdetr.processing import images
from tests.cli.conftest import SHAPES, Command

COMMANDS = ("ground", "refer", "answer", "segment", "detect")
SIZE = (67, 43)  # of no other image here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures among all that a folder may hold beside them, and a picture that is cut off."""
    folder = tmp_path / "my [new] photos"
    (folder / "folder.png").mkdir(parents=True)
    for name in ("a [x].png", "b :cat:.png", "cut.png", ".hidden.png"):
        Image.effect_noise(SIZE, 80).save(folder / name)
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:300])
    (folder / "._a [x].png").write_bytes(b"\0\5\x16\7")
    for name in ("notes.pdf", "table.h5", "film.mpg", "notes.txt"):
        (folder / name).write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_one_bad_file_in_a_folder_is_told_at_the_end_and_the_others_are_answered(
    name: str, command: Command, folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    text = "the [/red] :dog: cube [x]"
    threshold = () if name == "refer" else ("--threshold", 0)
    code, output, error = command(
        *(name, folder, text, "--model", tiny_model_folder, "--json", tmp_path / "found.json"),
        *("--output", tmp_path / "out", *threshold),
    )
    assert code == 1
    entries = json.loads((tmp_path / "found.json").read_text())
    assert [Path(entry["image"]).name for entry in entries] == ["a [x].png", "b :cat:.png"]
    assert sorted(os.listdir(tmp_path / "out")) == ["a [x].png", "b :cat:.png"]
    assert all(shown in output for shown in ("a [x].png", "b :cat:.png", text)), output
    assert error.splitlines()[0] == "mdetr: 1 of 3 images could not be used:"
    (line,) = error.splitlines()[1:]
    assert "my [new] photos/cut.png is damaged or cut off" in line


def test_a_folder_of_bad_images_writes_nothing(
    command: Command, tiny_model_folder: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no image")
    code, output, error = command(
        *("ground", tmp_path, "a cube", "--model", tiny_model_folder),
        *("--json", tmp_path / "found.json", "--output", tmp_path / "out"),
    )
    assert (code, output) == (1, "")
    assert "2 of 2 images could not be used" in error
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


@pytest.mark.parametrize("texts", [("a cube",), ("a cube", "--also", "a ball")])
def test_no_more_images_than_a_batch_are_in_memory(
    command: Command,
    tiny_model_folder: Path,
    tmp_path: Path,
    texts: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(6):
        Image.effect_noise(SIZE, 80).save(tmp_path / f"{number}.png")
    counts = []
    read: list[weakref.ref[np.ndarray]] = []
    original, load = PredictionRun._draw, images.load_image

    def load_image(image: object) -> np.ndarray:
        pixels = load(image)
        read.append(weakref.ref(pixels))
        return pixels

    def draw(*arguments: object) -> None:
        gc.collect()
        held = gc.get_objects()
        pictures = sum(type(one) is Image.Image and one.size == SIZE for one in held)
        pixels = sum(reference() is not None for reference in read)
        counts.append((pictures, pixels))
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PredictionRun, "_draw", draw)
    monkeypatch.setattr(images, "load_image", load_image)
    code, _, _ = command(
        *("ground", tmp_path, *texts, "--model", tiny_model_folder, "--batch-size", 2),
        *("--output", tmp_path / "out"),
    )
    assert code == 0
    at_once = 2 if len(texts) == 1 else 1
    assert counts == [(at_once, at_once)] * (6 if len(texts) == 1 else 12)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_what_was_finished_is_kept_as_valid_json_when_the_run_dies(
    suffix: str, command: Command, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        Image.new("RGB", SIZE).save(tmp_path / f"{number}.png")
    original, calls = Mdetr.ground_batch, []

    def ground_batch(self: Mdetr, *arguments: Any) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Mdetr, "ground_batch", ground_batch)
    file = tmp_path / f"found.{suffix}"
    code, _, _ = command(
        "ground", tmp_path, "a cube", "--model", tiny_model_folder, "--batch-size", 2, "--json", file
    )
    assert code == 130
    content = file.read_text()
    entries = json.loads(content) if suffix == "json" else [json.loads(line) for line in content.splitlines()]
    assert [Path(entry["image"]).name for entry in entries] == ["0.png", "1.png", "2.png", "3.png"]


def test_json_is_written_even_if_a_picture_cannot_be(
    command: Command, pictures: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "one.png").mkdir(parents=True)
    code, output, error = command(
        *("ground", pictures, "a cube", "--model", tiny_model_folder),
        *("--output", tmp_path / "out", "--json", tmp_path / "found.json"),
    )
    assert code == 1
    assert len(json.loads((tmp_path / "found.json").read_text())) == 2
    assert "1 of 2 images could not be drawn" in error
    assert "one.png is a folder" in error
    assert "two.png" in output


@pytest.mark.parametrize("name", COMMANDS)
def test_json_on_standard_output_has_it_for_itself(
    name: str, command: Command, pictures: Path, tiny_model_folder: Path
) -> None:
    code, output, error = command(name, pictures, "a cube", "--model", tiny_model_folder, "--json", "-")
    assert code == 0
    assert [Path(entry["image"]).name for entry in json.loads(output)] == ["one.png", "two.png"]
    assert "one.png" in error
    code, output, _ = command(
        name, pictures / "one.png", "a cube", "--model", tiny_model_folder, "--json", "-"
    )
    assert json.loads(output)["width"] == 60


def test_a_data_address_is_an_image(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    address = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    found = {}
    for image in (address, picture):
        code, output, _ = command(
            *("ground", image, "a cube", "--model", tiny_model_folder, "--threshold", 0),
            *("--json", "-", "--output", f"{tmp_path}/out/"),
        )
        assert code == 0
        found[image] = json.loads(output)
    assert found[address].pop("image") == "data:image/png;base64,iV..."
    assert found[picture].pop("image") == str(picture)
    assert found[address] == found[picture]


def test_a_file_name_that_is_no_unicode_is_shown_and_kept(
    command: Command, tiny_model_folder: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", SIZE).save(tmp_path / name)
    code, output, _ = command(
        *("ground", tmp_path, "a cube", "--model", tiny_model_folder, "--threshold", 0),
        *("--json", tmp_path / "found.json"),
    )
    assert code == 0
    assert r"caf\udce9.png: a cube" in output
    assert json.loads((tmp_path / "found.json").read_text())["image"] == str(tmp_path / name)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (os.fsdecode(b"caf\xe9 cube"), r"not valid Unicode at character 4"),
        ("", "empty|no name"),
        (str(SHAPES / "CLEVR_train_000000.png"), "add the text"),
    ],
    ids=["no-unicode", "empty", "image"],
)
def test_what_is_no_text_is_refused_before_the_model_is_loaded(
    name: str, text: str, message: str, command: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mdetr, "from_pretrained", pytest.fail)
    code, _, error = command(name, picture, text, "--model", "clevr-tiny")
    assert code == 1
    assert error.count("\n") == 1
    assert any(part in error for part in message.split("|")), error


@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_that_is_not_here_is_refused(name: str, command: Command, picture: Path) -> None:
    code, _, error = command(name, picture, "a cube", "--model", "clevr-tiny", "--device", "gpu")
    assert code == 1
    assert "no type of device 'gpu'" in error
    assert "Did you mean 'cuda'?" in error


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_model_runs_in_the_type_that_is_named(
    name: str,
    dtype: torch.dtype,
    command: Command,
    picture: Path,
    tiny_model_folder: Path,
    ran_in: set[tuple[str, torch.dtype]],
) -> None:
    options = ("--model", tiny_model_folder, "--dtype", str(dtype).removeprefix("torch."), "--threshold", 0)
    code, output, error = command(name, picture, "a cube", *options, "--device", "cpu")
    assert code == 0, error
    assert re.search(r"\d \d+ \d+ \d+", output)  # a box
    assert ran_in == {("cpu", dtype)}


def test_a_type_that_no_model_runs_in_is_a_wrong_call(command: Command, picture: Path) -> None:
    code, _, error = command("ground", picture, "a cube", "--dtype", "int8")
    assert code == 2
    assert "'float32', 'bfloat16', 'float16'" in error


def test_a_folder_of_folders_says_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "inside" / "a.png")
    code, _, error = command("detect", tmp_path, "cube", "--model", "clevr-tiny")
    assert code == 1
    assert "subfolders are not searched" in error
