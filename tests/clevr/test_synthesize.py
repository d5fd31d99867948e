"""The written world: the same for the same seed, whatever the workers, and readable as CLEVR."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdetr.clevr.rendering import Renderer
from mdetr.clevr.scenes import Camera, Scene, SceneObject
from mdetr.clevr.synthesize import SynthesisOptions, scene_entry, synthesize
from mdetr.data.sources.clevr import read_clevr
from mdetr.errors import InvalidInputError, MissingDependencyError

OPTIONS = SynthesisOptions(split="val", seed=3, width=120, height=80)
pytestmark = pytest.mark.usefixtures("renderer")


@pytest.fixture(scope="module")
def world(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("world"), 30, OPTIONS)


def test_workers_and_repetition_change_nothing(world: Path, tmp_path: Path) -> None:
    done: list[int] = []
    again = synthesize(tmp_path, 30, OPTIONS, workers=2, on_progress=done.append)
    assert sum(done) == 30
    files = sorted(path.relative_to(world) for path in world.rglob("*.*"))
    assert len(files) == 33
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.*"))
    for file in files:
        if file.suffix == ".png":  # drivers may differ in the last bit between processes
            pictures = [np.asarray(Image.open(folder / file)).astype(int) for folder in (world, again)]
            assert np.abs(pictures[0] - pictures[1]).max() <= 1
        else:
            assert (world / file).read_text() == (again / file).read_text()


def test_every_object_is_seen_whole(world: Path) -> None:
    scenes = json.loads((world / "scenes" / "CLEVR_val_scenes.json").read_text())["scenes"]
    for scene in scenes:
        for thing in scene["objects"]:
            x0, y0, x1, y1 = thing["bbox"]
            assert 0 < x0 < x1 < 120
            assert 0 < y0 < y1 < 80


def test_the_reader_of_clevr_reads_it(world: Path) -> None:
    records = list(read_clevr(world, "val"))
    assert len({record.image_id for record in records}) == 30
    assert any(record.is_referred is not None for record in records)
    assert all(len(record.boxes) == len(record.spans) for record in records)


def test_a_split_is_not_overwritten(world: Path) -> None:
    with pytest.raises(InvalidInputError, match="has a split 'val' already"):
        synthesize(world, 1, OPTIONS)


def test_no_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        synthesize(tmp_path, 0, OPTIONS)
    assert not any(tmp_path.iterdir())


def test_a_turn_is_written_in_radians_as_clevr_reads_it() -> None:
    cube = SceneObject("cube", "red", "metal", "large", rotation=45.0, position=(0.0, 0.0, 0.5))
    scene = Scene((cube,), Camera(azimuth=135, elevation=-30, distance=11.5), light=(0.0, 0.0, 1.0))
    (written,) = scene_entry(scene, np.full((80, 120), -1, np.int16))["objects"]
    assert written["rotation"] == pytest.approx(math.pi / 4)


def test_without_mujoco_no_folder_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)  # as if it were not installed
    options = SynthesisOptions(width=64, height=48)  # of a size that no renderer is open for
    for workers in (1, 2):
        with pytest.raises(MissingDependencyError, match=r"pip install 'mdetr\[clevr\]'"):
            synthesize(tmp_path / "made", 2, options, workers=workers)
        assert not any(tmp_path.iterdir())
