"""Synthetic splits: the same for the same seed and any number of workers, and readable as CLEVR."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdetr.data.sources.clevr import read_clevr
from mdetr.data.sources.clevr_scenes import FOCAL_LENGTH, project_boxes
from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.synthetic_clevr.rendering import Renderer, visible_boxes
from mdetr.synthetic_clevr.scenes import sample_scene
from mdetr.synthetic_clevr.synthesize import SynthesisOptions, scene_entry, synthesize

OPTIONS = SynthesisOptions(split="val", seed=3, width=120, height=80)
pytestmark = pytest.mark.usefixtures("renderer")


@pytest.fixture(scope="module")
def split_folder(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("split_folder"), 30, OPTIONS)


def test_workers_and_repetition_change_nothing(split_folder: Path, tmp_path: Path) -> None:
    done: list[int] = []
    again = synthesize(tmp_path, 30, OPTIONS, workers=2, on_progress=done.append)
    assert sum(done) == 30
    files = sorted(path.relative_to(split_folder) for path in split_folder.rglob("*.*"))
    assert len(files) == 33
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.*"))
    for file in files:
        if file.suffix == ".png":  # drivers may differ in the last bit between processes
            pictures = [np.asarray(Image.open(folder / file)).astype(int) for folder in (split_folder, again)]
            assert np.abs(pictures[0] - pictures[1]).max() <= 1
        else:
            assert (split_folder / file).read_text() == (again / file).read_text()


def test_every_object_is_inside_the_image(split_folder: Path) -> None:
    scenes = json.loads((split_folder / "scenes" / "CLEVR_val_scenes.json").read_text())["scenes"]
    for scene in scenes:
        for thing in scene["objects"]:
            x0, y0, x1, y1 = thing["bbox"]
            assert 0 < x0 < x1 < 120
            assert 0 < y0 < y1 < 80


def test_the_importer_of_clevr_reads_it(split_folder: Path) -> None:
    records = list(read_clevr(split_folder, "val"))
    assert len({record.image_id for record in records}) == 30
    assert any(record.is_referred is not None for record in records)
    assert all(len(record.boxes) == len(record.spans) for record in records)


def test_a_split_is_not_overwritten(split_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="already has a split 'val'"):
        synthesize(split_folder, 1, OPTIONS)


def test_scenes_have_the_objects_and_captions_that_are_asked_for(tmp_path: Path) -> None:
    options = replace(OPTIONS, min_objects=4, max_objects=5, condition="A", captions=6, phrases=1)
    synthesize(tmp_path, 12, options)
    scenes = json.loads((tmp_path / "scenes" / "CLEVR_val_scenes.json").read_text())["scenes"]
    assert {len(scene["objects"]) for scene in scenes} == {4, 5}
    cubes = {thing["color"] for scene in scenes for thing in scene["objects"] if thing["shape"] == "cube"}
    assert cubes <= {"gray", "blue", "brown", "yellow"}
    captions = json.loads((tmp_path / "captions" / "CLEVR_val_captions.json").read_text())["captions"]
    assert {len(caption["phrases"]) for caption in captions} == {1, 2}  # a relation has a phrase of its own
    assert 4 < len(captions) / 12 <= 6


def test_fewer_scenes_are_the_first_ones_of_more(split_folder: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, 3, OPTIONS)
    for kind in ("scenes", "captions", "refexps"):
        fewer, more = (
            json.loads((folder / kind / f"CLEVR_val_{kind}.json").read_text())[kind]
            for folder in (tmp_path, split_folder)
        )
        assert fewer == more[: len(fewer)]


def test_more_objects_than_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Expected 1 to 10 objects per scene, got 3 to 11"):
        synthesize(tmp_path, 1, replace(OPTIONS, max_objects=11))
    assert not any(tmp_path.iterdir())


def test_no_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        synthesize(tmp_path, 0, OPTIONS)
    assert not any(tmp_path.iterdir())


def test_scenes_have_clevrs_format(renderer: Renderer) -> None:
    """CLEVR's importer finds the boxes of a scene drawn with CLEVR's camera from what its file says.

    A rotation is a number up to 360 that is taken as radians, in the picture as in CLEVR's.
    """
    field_of_view = 2 * math.degrees(math.atan(160 / FOCAL_LENGTH))
    overlaps, rotations = [], []
    for seed in range(15):
        scene = sample_scene(np.random.default_rng(seed))
        camera = replace(scene.camera, field_of_view=field_of_view, distance=12.5, height=0.0)
        scene = replace(scene, camera=camera)
        labels = renderer.labels(scene)
        scale = 480 / labels.shape[1]
        entry = scene_entry(scene, labels)
        for thing in entry["objects"]:
            column, row, depth = thing["pixel_coords"]
            thing["pixel_coords"] = [column * scale, row * scale, depth]
            rotations.append(thing["rotation"])
        for index, projected in enumerate(project_boxes(entry)):
            alone = renderer.labels(replace(scene, objects=(scene.objects[index],)))
            (seen,) = visible_boxes(alone, 1)
            if seen is None or projected is None or 0 in seen or seen[2] == 240 or seen[3] == 160:
                continue
            if scene.objects[index].shape == "cube":
                overlaps.append(_iou(projected, tuple(scale * value for value in seen)))
    assert len(overlaps) > 15
    assert np.median(overlaps) > 0.9
    assert max(rotations) > 300
    assert min(rotations) >= 0


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_half_hidden_objects_are_kept_as_in_clevr(split_folder: Path) -> None:
    """200 of 480 x 320 pixels: the same fraction of any image, and not much more."""
    scenes = json.loads((split_folder / "scenes" / "CLEVR_val_scenes.json").read_text())["scenes"]
    areas = [(x1 - x0) * (y1 - y0) for s in scenes for x0, y0, x1, y1 in (t["bbox"] for t in s["objects"])]
    assert 200 / 16 <= min(areas) < 60
    sizes = np.bincount([len(scene["objects"]) for scene in scenes], minlength=11)[3:]
    assert (sizes > 0).sum() >= 6


def test_the_unseen_look_has_the_same_layout(renderer: Renderer, tmp_path: Path) -> None:
    options = SynthesisOptions(split="val", seed=3, width=120, height=80, questions=4, look="unseen")
    records = list(read_clevr(synthesize(tmp_path, 5, options), "val"))
    assert {json.loads(record.extra)["kind"] for record in records} == {"caption", "refexp", "question"}


def test_without_mujoco_no_folder_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)  # as if it were not installed
    options = SynthesisOptions(width=64, height=48)  # of a size that no renderer is open for
    for workers in (1, 2):
        with pytest.raises(MissingDependencyError, match=r"pip install 'mdetr\[clevr\]'"):
            synthesize(tmp_path / "made", 2, options, workers=workers)
        assert not any(tmp_path.iterdir())
