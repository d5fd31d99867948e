"""`mdetr ground`: tables, pictures and JSON; and every kind of bad input that a user may give it.

What the commands share is in test_prediction_run.py.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from tests.cli.conftest import Command


def test_one_picture_gives_a_table_a_picture_and_json(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    drawn, answer = tmp_path / "new" / "found.png", tmp_path / "found.json"
    code, output, _ = command(
        *("ground", picture, "a red cube", "--model", tiny_model_folder, "--threshold", 0),
        *("--output", drawn, "--json", answer),
    )
    assert code == 0
    assert f"{picture.name}: a red cube" in output
    assert f"picture: {drawn}" in output
    assert Image.open(drawn).width >= 640
    content = json.loads(answer.read_text())
    assert content["image"] == str(picture)
    assert content["text"] == "a red cube"
    assert len(content["groundings"]) == 7
    for found in content["groundings"]:
        assert f"{found['score']:.2f}" in output


def test_a_folder_means_the_pictures_in_it(
    command: Command, pictures: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "found.json"
    code, _, _ = command(
        *("ground", pictures, "a cube", "--model", tiny_model_folder, "--json", answer),
        *("--output", tmp_path / "out"),
    )
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]
    images = [Path(entry["image"]).name for entry in json.loads(answer.read_text())]
    assert images == ["one.png", "two.png"]


def test_several_texts_are_asked_of_the_same_picture(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    code, output, _ = command(
        *("ground", picture, "a cube", "--also", "a ball", "--model", tiny_model_folder),
        *("--output", tmp_path / "out"),
    )
    assert code == 0
    assert output.index(f"{picture.name}: a cube") < output.index(f"{picture.name}: a ball")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{picture.stem}-1.png", f"{picture.stem}-2.png"]


def test_several_texts_are_asked_of_several_pictures(
    command: Command, pictures: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "found.json"
    code, _, _ = command(
        "ground", pictures, "a cube", "--also", "a ball", "--model", tiny_model_folder, "--json", answer
    )
    assert code == 0
    entries = [(Path(entry["image"]).stem, entry["text"]) for entry in json.loads(answer.read_text())]
    assert entries == [("one", "a cube"), ("one", "a ball"), ("two", "a cube"), ("two", "a ball")]


def test_finding_nothing_is_no_failure(command: Command, picture: Path, tiny_model_folder: Path) -> None:
    code, output, _ = command("ground", picture, "a cube", "--model", tiny_model_folder, "--threshold", 1)
    assert code == 0
    assert "nothing found with a score above 1" in output


def _bomb(path: Path) -> None:
    """A PNG that says it has 20,000 x 20,000 pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _truncated(path: Path) -> None:
    Image.effect_noise((200, 200), 80).convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "image.png: there is no such file|no such|does not exist|There is no"),
        (lambda path: path.write_text("hello"), "not an image|no image"),
        (_truncated, "damaged|truncated"),
        (_bomb, "too large|pixels"),
        (lambda path: path.write_bytes(b""), "not an image|no image|empty"),
    ],
    ids=["missing", "text", "truncated", "bomb", "empty"],
)
def test_a_bad_image_is_named_in_one_sentence_and_nothing_is_written(
    command: Command, tiny_model_folder: Path, tmp_path: Path, make, message: str
) -> None:
    image, output = tmp_path / "image.png", tmp_path / "out"
    make(image)
    code, _, error = command(
        "ground", image, "a cube", "--model", tiny_model_folder, "--json", tmp_path / "found.json"
    )
    assert code == 1
    assert error.count("\n") == 1
    assert "image.png" in error
    assert any(part in error for part in message.split("|")), error
    assert not output.exists()
    assert not (tmp_path / "found.json").exists()


def test_one_pixel_is_an_image(command: Command, tiny_model_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    code, _, _ = command("ground", tmp_path / "pixel.png", "a cube", "--model", tiny_model_folder)
    assert code == 0


@pytest.mark.parametrize(
    ("text", "message"), [("  ", "The text is empty"), ("cube " * 300, "only 256 positions; shorten it")]
)
def test_a_bad_text_is_refused(
    command: Command, picture: Path, tiny_model_folder: Path, text: str, message: str
) -> None:
    code, _, error = command("ground", picture, text, "--model", tiny_model_folder)
    assert code == 1
    assert message in error


def test_an_image_without_a_text_is_refused(command: Command, picture: Path) -> None:
    code, _, error = command("ground", picture)
    assert code == 1
    assert "Give at least one image and then the text" in error


def test_a_folder_without_pictures_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, error = command("ground", tmp_path, "a cube")
    assert code == 1
    assert "There is no image in the folder" in error


def test_pictures_that_would_overwrite_each_other_are_refused(
    command: Command, pictures: Path, tmp_path: Path
) -> None:
    code, _, error = command(
        "ground", pictures / "one.png", pictures / "one.png", "a cube", "--output", tmp_path / "out"
    )
    assert code == 1
    assert "would overwrite each other" in error
    assert not (tmp_path / "out").exists()


def test_a_json_file_in_no_folder_is_refused(
    command: Command, picture: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    code, _, error = command(
        *("ground", picture, "a cube", "--model", tiny_model_folder),
        *("--json", tmp_path / "missing" / "found.json"),
    )
    assert code == 1
    assert "There is no folder" in error


def test_the_example_finds_the_cat_that_comes_with_the_package_and_no_car(
    command: Command, tmp_path: Path
) -> None:
    code, _, _ = command("ground", "--example", "--json", tmp_path / "found.json")
    assert code == 0
    (found,) = json.loads((tmp_path / "found.json").read_text())["groundings"]
    assert found["phrase"] == "a brown cat"
    assert iou(found["box"], (3, 2, 385, 300)) > 0.9  # its head, from ear to ear
    code, _, error = command("ground", "cat.jpg", "a cat", "--example")
    assert code == 1 and "leave out yours" in error


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    return float(box_iou(torch.tensor([a]), torch.tensor([b]))[0, 0])
