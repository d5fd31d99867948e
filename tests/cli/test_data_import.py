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
    assert "mdetr data import clevr" in CliRunner().invoke(APP, ["--help"]).output
