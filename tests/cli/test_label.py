"""`mdetr label`: one command from a folder to a data set, which continues where it was stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import SHAPES, Command
from tests.processes import MDETR, Process, run_together

CLASSES = ("--classes", "cube, ball,ball", "--model", "clevr-tiny")


@pytest.fixture
def many_images(tmp_path: Path) -> Path:
    """A folder with 200 images: four parts."""
    folder = tmp_path / "many"
    folder.mkdir()
    originals = sorted(SHAPES.glob("*.png"))
    for number in range(200):
        shutil.copy(originals[number % 8], folder / f"{number:03d}.png")
    return folder


def _rows(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "results").to_pylist()


def test_a_folder_becomes_a_data_set(command: Command, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(SHAPES, photos)
    (photos / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "labels"
    code, output, error = command("label", photos, out, *CLASSES, "--to", "coco", "--to", "yolo")
    assert code == 0, error
    content = json.loads((out / "coco.json").read_text())
    boxes = len(content["annotations"])
    assert [category["name"] for category in content["categories"]] == ["cube", "ball"]
    assert f"{boxes} boxes in 8 images" in output
    assert f"labels: {out / 'coco.json'}" in output
    assert len(list((out / "labels").iterdir())) == 8
    assert "mdetr: 1 image could not be used" in error
    assert "broken.png" in error


def test_another_format_of_finished_labels_loads_no_model(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("label", SHAPES, tmp_path / "out", *CLASSES)
    assert command(*arguments)[0] == 0
    monkeypatch.setattr("mdetr.labeling.labeler.Labeler.__init__", None)
    code, _, error = command(*arguments, "--to", "voc")
    assert code == 0, error
    assert len(list((tmp_path / "out" / "Annotations").iterdir())) == 8


def test_a_killed_run_continues_without_labeling_anything_twice(many_images: Path, tmp_path: Path) -> None:
    arguments = ("label", many_images, tmp_path / "out", *CLASSES)
    process = Process(MDETR, *arguments)
    finished = tmp_path / "out" / "results"
    while process.returncode is None and len(list(finished.glob("0*.parquet"))) < 1:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in finished.glob("0*.parquet")}
    assert 1 <= len(before) < 4

    again = Process(MDETR, *arguments)
    assert again.wait() == 0, again.errors
    after = {file.name: file.stat().st_mtime_ns for file in finished.glob("0*.parquet")}
    assert before.items() <= after.items()
    assert sorted(row["image"] for row in _rows(tmp_path / "out")) == [f"{n:03d}.png" for n in range(200)]  # type: ignore[type-var]


def test_several_processes_give_the_rows_of_one(many_images: Path, tmp_path: Path) -> None:
    run_together(2, MDETR, "label", many_images, tmp_path / "two", *CLASSES)
    one = Process(MDETR, "label", many_images, tmp_path / "one", *CLASSES)
    assert one.wait() == 0, one.errors
    assert _rows(tmp_path / "two") == _rows(tmp_path / "one")
    assert (tmp_path / "two" / "coco.json").read_bytes() == (tmp_path / "one" / "coco.json").read_bytes()


def test_labels_train_a_model(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("label", SHAPES, "labels", *CLASSES, "--to", "coco")[0] == 0
    assert command("data", "import", "coco", "labels/coco.json", "stores/labels")[0] == 0
    code, _, error = command(
        *("train", "finetune", "--set", "data=stores/labels", "--set", "model=clevr-tiny"),
        *("--set", "optimizer.steps=2", "--output", "run"),
    )
    assert code == 0, error
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_phrases_and_captions_come_from_files(command: Command, tmp_path: Path) -> None:
    (tmp_path / "phrases.yaml").write_text(
        "round: [a ball, a sphere]\nflat: {phrases: a cube, threshold: 0.9}"
    )
    code, output, error = command(
        *("label", SHAPES, tmp_path / "classes", "--phrases", tmp_path / "phrases.yaml"),
        *("--model", "clevr-tiny"),
    )
    assert code == 0, error
    assert "round" in output

    (tmp_path / "captions.jsonl").write_text(
        '{"image": "CLEVR_train_000000.png", "text": "a cylinder"}\n{"image": "no.png", "text": "a cube"}\n'
    )
    code, output, error = command(
        *("label", SHAPES, tmp_path / "captions", "--text-from", tmp_path / "captions.jsonl"),
        *("--model", "clevr-tiny"),
    )
    assert code == 0, error
    assert "7 images have no caption and will be left out." in error
    assert "1 image with a caption is not among the images, such as no.png." in error
    (line,) = (tmp_path / "captions" / "labels.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "a cylinder"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photos", "--classes", "cube"), "Give at least one image or folder and then the folder"),
        (("photos", "out"), "Give one of --classes"),
        (("photos", "out", "--classes", "cube", "--phrases", "x.yaml"), "Give one of --classes"),
        (("photos", "out", "--classes", " , "), "There is no class"),
        (("none", "out", "--classes", "cube"), "There is no file or folder"),
        (("photos", "out", "--text-from", "x.jsonl", "--to", "yolo"), "has classes but no captions"),
        (("photos", "out", "--text-from", "x.jsonl"), "There is no file"),
        (("photos", "photos", "--classes", "cube"), "was not made by this command"),
        (("photos", "photos/out", "--classes", "cube"), "is within the images in photos"),
        (("photos", "out", "--classes", "cube", "--workers", "2"), "--workers is for --engine ray"),
        (("photos", "out", "--classes", "cube", "--model", "none"), "There is no model"),
        (("photos/a.png", "out", "--classes", "cube"), "None of the images could be used"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(
    arguments: tuple[str, ...],
    message: str,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no picture")
    if "--model" not in arguments:
        arguments += ("--model", "clevr-tiny")
    code, _, error = command("label", *arguments)
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_other_settings_for_the_same_folder_are_refused(command: Command, tmp_path: Path) -> None:
    arguments = ("label", SHAPES, tmp_path / "out", *CLASSES)
    assert command(*arguments)[0] == 0
    code, _, error = command(*arguments, "--threshold", "0.5")
    assert code == 1
    assert "threshold was 0.7, now it is 0.5" in error


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_folder_that_cannot_be_written_is_named_in_one_sentence(
    when: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = (
        "mdetr.labeling.plan.LabelPlan.create" if when == "before" else "mdetr.labeling.labeler.write_results"
    )
    monkeypatch.setattr(place, full)
    code, _, error = command("label", SHAPES, tmp_path / "out", *CLASSES)
    assert code == 1
    assert f"The labels cannot be written to {tmp_path / 'out'} (No space left on device)" in error
    assert len(error.strip().splitlines()) == 1
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "160")
    assert command("label", SHAPES, tmp_path / "out", *CLASSES)[0] == 0
