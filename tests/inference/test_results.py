"""Results: read as a sequence, written as JSON and as pictures, never half-written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdetr.errors import InvalidInputError
from mdetr.inference.results import (
    AnswerResult,
    DetectionResult,
    GroundingResult,
    ReferringResult,
    SegmentationResult,
)
from mdetr.processing.detections import Detections, Grounding

FOUND = Grounding("a cube", ((0, 6),), (10.0, 5.0, 20.0, 15.0), 0.75)
BOXES, SCORES = np.array([[10, 5, 20, 15]]), np.array([0.75])
ONE = Detections(BOXES, SCORES, phrases=("a cube",), spans=(((0, 6),),))
NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), phrases=(), spans=())


@pytest.fixture
def result() -> GroundingResult:
    return GroundingResult(Image.new("RGB", (64, 48)), "a cube and a ball", ONE)


def test_a_result_is_a_sequence_and_json(result: GroundingResult) -> None:
    assert list(result) == [FOUND]
    assert result[0] == FOUND
    assert json.loads(json.dumps(result.to_dict())) == {
        "text": "a cube and a ball",
        "width": 64,
        "height": 48,
        "groundings": [{"phrase": "a cube", "spans": [[0, 6]], "box": [10, 5, 20, 15], "score": 0.75}],
    }


def test_a_picture_is_written_where_it_is_wanted(result: GroundingResult, tmp_path: Path) -> None:
    picture = result.plot(tmp_path / "found.png")
    assert Image.open(tmp_path / "found.png").size == picture.size
    (tmp_path / "plain").touch()
    assert (tmp_path / "found.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()
    ReferringResult(result.image, "a cube", ONE).plot(tmp_path / "one.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.png", "one.jpg"]


def test_a_name_that_is_no_picture_and_a_missing_folder_are_refused(
    result: GroundingResult, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=r"found\.xyz has no image suffix"):
        result.plot(tmp_path / "found.xyz")
    with pytest.raises(
        InvalidInputError, match=r"found\.psd cannot be written: \.psd files can only be read"
    ):
        result.plot(tmp_path / "found.psd")
    with pytest.raises(InvalidInputError, match=r"There is no folder .*; create it first"):
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
    mask = np.zeros((1, 48, 64), bool)
    mask[0, :, 1] = True
    masked = Detections(BOXES, SCORES, phrases=("a cube",), spans=(((0, 6),),), masks=mask)
    labeled, classes = Detections(BOXES, SCORES, labels=("cat, dog",)), ("cube", "cat, dog")
    results = {
        "answer": AnswerResult(image, "What is it?", ONE, "cube", "attr", 0.5),
        "mask": SegmentationResult(image, "a cube", masked),
        "detection": DetectionResult(image, "cube, cat, dog", labeled, classes),
        "nothing": DetectionResult(image, "cube", labeled[:0], ("cube",)),
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
    assert results["detection"].to_coco(image_id=7)[0]["category_id"] == 2  # the place among the names


def test_nothing_found_is_told_in_the_picture_of_an_expression() -> None:
    image = Image.new("RGB", (640, 100))
    nothing = ReferringResult(image, "a cube", NOTHING)
    assert (nothing.box, nothing.score) == (None, None)
    assert nothing.to_dict() == {"text": "a cube", "width": 640, "height": 100, "box": None, "score": None}
    told, found = (np.asarray(result.plot()) for result in (nothing, ReferringResult(image, "a cube", ONE)))
    assert (told[:100] == 0).all()  # no box
    assert (found[:100] > 0).any()
    ink = [(picture[100:] < 100).all(2).any(0).nonzero()[0] for picture in (told, found)]
    assert ink[0].max() > 1.5 * ink[1].max()  # the line below is longer by " – nothing found"


def test_a_notebook_shows_the_picture_of_a_result(result: GroundingResult) -> None:
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert np.array_equal(np.asarray(shown), np.asarray(result.plot()))


def test_a_result_has_the_arrays_and_the_tables_of_its_detections(result: GroundingResult) -> None:
    assert result.boxes.tolist() == [[10, 5, 20, 15]]
    assert result.scores.tolist() == [0.75]
    assert result.phrases == ("a cube",)
    assert result.groundings == (FOUND,)
    assert result.to_pandas().loc[0, "phrase"] == "a cube"
    assert result.to_coco(image_id=7)[0]["image_id"] == 7
