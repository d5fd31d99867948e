"""Tests of `mdetr data import`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mdetr.cli.data_import import import_data
from mdetr.data.store import Store
from mdetr.errors import InvalidInputError, InvalidRecordError
from tests.cli.conftest import Command

APP = typer.Typer()
APP.command()(import_data)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """One image with two captions, of which the second has a span outside its text."""
    root = tmp_path / "shapes"
    for folder in ("images/train", "scenes", "captions"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "images" / "train" / "0.png")
    scene = {"image_index": 0, "image_filename": "0.png", "objects": [{"bbox": [1, 2, 10, 20]}]}
    (root / "scenes" / "CLEVR_train_scenes.json").write_text(json.dumps({"scenes": [scene]}))
    common = {"image_index": 0, "image_filename": "0.png"}
    captions = [
        {**common, "text": "a cube", "phrases": [{"spans": [[0, 6]], "objects": [0]}]},
        {**common, "text": "a cube", "phrases": [{"spans": [[0, 7]], "objects": [0]}]},
    ]
    (root / "captions" / "CLEVR_train_captions.json").write_text(json.dumps({"captions": captions}))
    return root


def test_bad_entries_are_left_out_and_listed_when_asked(shapes: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = CliRunner().invoke(APP, ["clevr", str(shapes), str(store), "--skip-bad"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Wrote 1 records" in result.output
    assert "Left out 1 entries" in result.output
    assert "CLEVR_train_captions.json, entry 1" in result.output
    assert [record.text for record in Store.open(store)] == ["a cube"]


def test_a_bad_entry_stops_the_import_otherwise(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecordError, match=r"CLEVR_train_captions\.json, entry 1: .* span \(0, 7\)"):
        import_data("clevr", shapes, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_unknown_source_names_the_known_ones(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Unknown source 'klevr'; choose one of: clevr"):
        import_data("klevr", shapes, tmp_path / "store")


def test_help_has_an_example() -> None:
    assert "mdetr data import refcoco" in CliRunner().invoke(APP, ["--help"]).output


def test_own_data_are_imported_counted_and_viewed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(pictures / "a.png")
    line = {"image": "pictures/a.png", "text": "a cat", "boxes": [[1, 2, 30, 20]], "phrases": ["cat"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    store = tmp_path / "store"
    code, output, _ = command("data", "import", "jsonl", tmp_path / "mine.jsonl", store)
    assert code == 0
    assert "1 records" in output
    code, output, _ = command("data", "stats", store, "--json", tmp_path / "stats.json")
    assert code == 0
    assert json.loads((tmp_path / "stats.json").read_text())["boxes"] == 1
    code, output, _ = command("data", "view", store, "--output", tmp_path / "sheet.png")
    assert code == 0
    assert Image.open(tmp_path / "sheet.png").width == 480
    code, _, error = command("data", "view", store, "--output", tmp_path / "none" / "sheet.png")
    assert code == 1
    assert "make it first" in error


def test_images_may_be_elsewhere(command: Command, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(images / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30, "caption": "a cat"}],
        "annotations": [{"image_id": 1, "bbox": [1, 2, 8, 9], "tokens_positive": [[0, 5]]}],
    }
    (tmp_path / "final_gqa_val.json").write_text(json.dumps(content))
    arguments = ("data", "import", "official", tmp_path, tmp_path / "store", "--split", "final_gqa_val")
    code, _, _ = command(*arguments, "--images", images)
    assert code == 0
    store = Store.open(tmp_path / "store")
    assert store.load_image(store[0]).shape == (3, 30, 40)
    code, _, error = command(*arguments, "--images", tmp_path / "none", "--overwrite")
    assert code == 1
    assert "There is no folder" in error
    code, _, error = command("data", "import", "jsonl", tmp_path / "none", tmp_path / "other")
    assert code == 1
    assert "There is no file or folder" in error
