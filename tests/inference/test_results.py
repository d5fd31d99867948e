"""Results: read as a sequence, written as JSON and as pictures, never half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mdetr.errors import InvalidInputError
from mdetr.inference.detection import Detection
from mdetr.inference.results import (
    AnswerResult,
    DetectionResult,
    GroundingResult,
    ReferringResult,
    SegmentationResult,
)
from mdetr.post_processing import Grounding

FOUND = Grounding("a cube", ((0, 6),), (10.0, 5.0, 20.0, 15.0), 0.9)


@pytest.fixture
def result() -> GroundingResult:
    return GroundingResult(Image.new("RGB", (64, 48)), "a cube and a ball", (FOUND,))


def test_a_result_is_a_sequence_and_json(result: GroundingResult) -> None:
    assert list(result) == [FOUND]
    assert result[0] is FOUND
    assert json.loads(json.dumps(result.to_dict())) == {
        "text": "a cube and a ball",
        "width": 64,
        "height": 48,
        "groundings": [{"phrase": "a cube", "spans": [[0, 6]], "box": [10, 5, 20, 15], "score": 0.9}],
    }


def test_a_picture_is_written_where_it_is_wanted(result: GroundingResult, tmp_path: Path) -> None:
    picture = result.plot(tmp_path / "found.png")
    assert Image.open(tmp_path / "found.png").size == picture.size
    (tmp_path / "plain").touch()
    assert (tmp_path / "found.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()
    ReferringResult(result.image, "the cube", FOUND.box, 0.8).plot(tmp_path / "one.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.png", "one.jpg"]


def test_a_name_that_is_no_picture_and_a_missing_folder_are_refused(
    result: GroundingResult, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=r"found\.xyz has no image suffix"):
        result.plot(tmp_path / "found.xyz")
    with pytest.raises(InvalidInputError, match=r"found\.psd cannot be written: \.psd files are only read"):
        result.plot(tmp_path / "found.psd")
    with pytest.raises(InvalidInputError, match=r"There is no folder .*; make it first"):
        result.plot(tmp_path / "missing" / "found.png")
    assert not any(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_leaves_nothing(
    result: GroundingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Image.Image, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        result.plot(tmp_path / "found.png")
    assert not any(tmp_path.iterdir())


def test_answers_masks_and_detections_are_json_and_pictures(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 48))
    mask = torch.zeros(48, 64, dtype=torch.bool)
    mask[:, 1] = True
    results = {
        "answer": AnswerResult(image, "What is it?", "cube", "attr", 0.5, (FOUND,)),
        "mask": SegmentationResult(image, "a cube", mask, (FOUND.box,), mask[None], (0.9,)),
        "detection": DetectionResult(image, ("cube", "cat, dog"), (Detection("cat, dog", FOUND.box, 0.9),)),
        "nothing": DetectionResult(image, ("cube",), ()),
    }
    for name, result in results.items():
        assert json.loads(json.dumps(result.to_dict()))["width"] == 64
        assert result.plot(tmp_path / f"{name}.png").width >= 640
    assert results["mask"].to_dict()["mask"] == {"size": [48, 64], "counts": [48, 48, 62 * 48]}
    assert results["answer"].to_dict()["answer"] == "cube"
    assert results["detection"].to_dict()["detections"][0]["name"] == "cat, dog"
    assert results["detection"][0].name == "cat, dog"
    red, green, blue = results["mask"].plot().getpixel((15, 300))
    assert red > green > blue  # the mask is tinted
