"""A folder of photos: names and captions, what is absent, what is held out, and lines that are refused."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mdetr.cli.main import main
from mdetr.data.record import Record
from mdetr.data.sources.photo_files import COCO_NAMES
from mdetr.data.sources.photos import is_held_out, read_photos
from mdetr.data.store import Store
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.training.recipe_file import load_recipe
from tests.photos import (
    CAPTIONS,
    COCO,
    TRAINING,
    VALIDATION,
    VOC,
    found,
    line,
    write_lines,
    write_photos,
)

ROOT = Path(__file__).parents[3]
TRAIN, VAL = TRAINING[0], VALIDATION[0]
DOG, CHAIR = [10, 20, 40, 60], [50.5, 10, 90, 50]
LINE = line(TRAIN, VOC, {"dog": [DOG], "sofa": [CHAIR]})
CAPTION = line(TRAIN, CAPTIONS, {"dog": [DOG]}, text="a dog runs", spans=[[2, 5]])


def _read(folder: Path, *lines: dict[str, Any], teacher: Any = (), split: str = "train") -> list[Record]:
    write_lines(folder / "records.jsonl", lines)
    write_lines(folder / "teacher.jsonl", teacher)
    return list(read_photos(folder, split))


def _words(record: Record) -> list[str]:
    return [record.text[start:end] for ((start, end),) in record.spans]


def _absent(record: Record) -> list[str]:
    return json.loads(record.extra or "")["absent"]


def test_a_photo_is_a_list_of_its_class_names_with_all_boxes(tmp_path: Path) -> None:
    (record,) = _read(tmp_path, LINE, line(TRAIN, VOC, {"dog": [[1, 1, 9, 9]]}))
    assert record.text == "dog. couch."  # a sofa is called as COCO calls it
    assert _words(record) == ["dog", "couch", "dog"]
    assert record.boxes == (tuple(DOG), tuple(CHAIR), (1, 1, 9, 9))
    assert (record.id, record.image, record.width, record.height) == (f"{TRAIN}-names", TRAIN, 96, 64)


def test_one_photo_in_ten_is_held_out_by_its_name_alone(tmp_path: Path) -> None:
    assert [is_held_out(image) for image in (*TRAINING, *VALIDATION)] == [False] * 6 + [True] * 4
    images = [f"images/{number}.jpg" for number in range(5000)]
    assert sum(map(is_held_out, images)) == pytest.approx(500, abs=70)
    write_photos(tmp_path / "photos")
    train, val = (list(read_photos(tmp_path / "photos", split)) for split in ("train", "val"))
    assert [record.image for record in train] == list(TRAINING)
    assert [record.image for record in val] == list(VALIDATION)


def test_absent_is_what_neither_people_nor_the_detector_saw(tmp_path: Path) -> None:
    teacher = [found(TRAIN, [("elephant", 0.36, [1, 1, 20, 20]), ("kite", 0.9, [1, 1, 9, 9])])]
    (record,) = _read(tmp_path, LINE, teacher=teacher)
    absent = _absent(record)
    assert {"cat", "airplane", "pizza", "raccoon", "jeans"} <= set(absent)
    assert not {"dog", "couch", "elephant", "kite"} & set(absent)
    assert not {"bed", "chair", "umbrella"} & set(absent)  # like a couch, like a kite
    assert not {"book", "cup", "fork"} & set(absent)  # often missed, and VOC has none


def test_where_no_detector_looked_only_what_people_boxed_can_be_absent(tmp_path: Path) -> None:
    (voc,) = _read(tmp_path, LINE)
    assert {"cat", "airplane"} <= set(_absent(voc))
    assert not {"pizza", "elephant", "jeans"} & set(_absent(voc))
    (coco,) = _read(tmp_path, line(TRAIN, COCO, {"dog": [DOG]}))  # all 80 classes have boxes there
    assert {"pizza", "elephant", "cup"} <= set(_absent(coco))
    (unknown,) = _read(tmp_path, line(TRAIN, "holiday", {"dog": [DOG]}))
    assert _absent(unknown) == []


def test_a_line_may_name_further_classes_that_are_all_boxed(tmp_path: Path) -> None:
    (record,) = _read(tmp_path, line(TRAIN, "holiday", {"dog": [DOG]}, boxed=["dog", "tent", "cat"]))
    assert _absent(record) == ["cat", "tent"]


def test_sure_boxes_of_the_detector_join_in_training_where_people_boxed_nothing_of_the_class(
    tmp_path: Path,
) -> None:
    seen = [("pizza", 0.7, [1, 2, 30, 40]), ("pizza", 0.4, [50, 2, 60, 40]), ("cat", 0.9, [1, 1, 9, 9])]
    (record,) = _read(tmp_path, LINE, teacher=[found(TRAIN, seen)])
    assert record.text == "dog. couch. pizza."  # people boxed VOC's cats
    assert record.boxes[2:] == ((1, 2, 30, 40),)
    held_out = line(VAL, VOC, {"dog": [DOG]})
    (record,) = _read(tmp_path, held_out, teacher=[found(VAL, seen)], split="val")
    assert record.text == "dog."


def test_captions_stay_as_they_are_and_are_for_training_alone(tmp_path: Path) -> None:
    seen = [found(TRAIN, [("dog", 0.8, DOG)]), found(VAL, [("dog", 0.8, DOG)])]
    names, caption = _read(tmp_path, CAPTION, CAPTION | {"image": VAL}, teacher=seen)
    assert (names.text, caption.text) == ("dog.", "a dog runs")
    assert _words(caption) == ["dog"]
    assert caption.extra is None
    left_out = Counter[str]()
    assert list(read_photos(tmp_path, "val", left_out=left_out)) == []
    assert left_out == {"photos whose boxes nobody checked, which are not for validation": 1}


def test_boxes_are_cut_at_the_edge_and_those_of_no_pixel_are_left_out_and_counted(tmp_path: Path) -> None:
    boxes = [[-5, 10, 40, 70], [200, 0, 300, 10], [10, 10, 10.4, 30]]
    write_lines(tmp_path / "records.jsonl", [line(TRAIN, VOC, {"dog": boxes})])
    left_out = Counter[str]()
    (record,) = read_photos(tmp_path, "train", left_out=left_out)
    assert record.boxes == ((0, 10, 40, 64),)
    assert left_out == {"boxes of less than a pixel in their photo": 2}


def test_photos_without_boxes_and_strange_lines_of_the_detector_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path / "records.jsonl", [LINE, line(TRAINING[1], VOC, {}), line(VAL, VOC, {})])
    write_lines(tmp_path / "teacher.jsonl", [found("images/else.png", [])])
    for split, texts in (("train", ["dog. couch."]), ("val", [])):
        left_out = Counter[str]()
        assert [record.text for record in read_photos(tmp_path, split, left_out=left_out)] == texts
        assert left_out == {
            "photos without a box": 1,
            "lines of teacher.jsonl about photos that records.jsonl lacks": 1,
        }


def test_validation_texts_are_composed_the_same_each_time_and_only_there(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    first, second = (list(read_photos(tmp_path / "photos", "val", composed=True)) for _ in range(2))
    assert first == second
    assert [record.image for record in first] == [image for image in VALIDATION for _ in range(4)]
    assert len({record.id for record in first}) == 16
    assert len({record.text for record in first}) > 8
    with pytest.raises(InvalidInputError, match="--split val"):
        read_photos(tmp_path / "photos", "train", composed=True)


def test_composed_texts_need_images_of_the_size_that_the_line_says(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos")
    (folder / "images").rename(tmp_path / "images")
    texts = list(read_photos(folder, "val", images=tmp_path, composed=True))
    assert len(texts) == 16
    with pytest.raises(InvalidRecordError, match=r"records\.jsonl, line 7: .*03\.png"):
        list(read_photos(folder, "val", composed=True))
    write_lines(folder / "records.jsonl", [line(VAL, COCO, {"dog": [DOG]}, width=95)])
    with pytest.raises(InvalidRecordError, match=r"are 95 x 64, but images/03\.png has 96 x 64 pixels"):
        list(read_photos(folder, "val", images=tmp_path, composed=True))


@pytest.mark.parametrize(
    ("good", "changes", "message"),
    [
        (LINE, {"boxes": [[1, 2, 3]]}, "its box 0 must be four numbers x0, y0, x1, y1, got 3"),
        (LINE, {"boxes": [DOG, [1, 2, "x", 4]]}, "its box 1 must be a number, got the text 'x'"),
        (LINE, {"boxes": [DOG, [9, 2, 3, 4]]}, r"its box 1 must be x0, y0, x1, y1 in this order"),
        (LINE, {"labels": ["dog"]}, 'its "labels" must be one for each box, got 1 for 2 boxes'),
        (LINE, {"labels": ["dog", None]}, 'its "labels" must be a text, got null'),
        (LINE, {"labels": ["dog", " "]}, 'its "labels" must be names'),
        (LINE, {"width": 0}, "its width and height must be positive, got 0 x 64"),
        (LINE, {"height": None}, 'its "height" must be a whole number, got null'),
        (LINE, {"source": 3}, 'its "source" must be a text, got 3'),
        (LINE, {"image": ""}, 'its "image" is empty'),
        (LINE, {"boxed": "dog"}, 'its "boxed" must be a list'),
        (CAPTION, {"text": None}, 'its "text" must be a text, got null'),
        (CAPTION, {"spans": []}, 'its "spans" must be one for each box, got 0 for 1 boxes'),
        (CAPTION, {"spans": [[2, 99]]}, r"span \(2, 99\) is outside its text of 10 characters"),
    ],
)
def test_a_bad_line_is_refused_with_file_line_and_field(
    tmp_path: Path, good: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    other = line(TRAINING[1], VOC, {"cat": [DOG]})
    with pytest.raises(InvalidRecordError, match=rf"records\.jsonl, line 2: .*{message}"):
        _read(tmp_path, other, good | changes)
    bad: list[InvalidRecordError] = []
    assert [record.text for record in read_photos(tmp_path, "train", bad.append)] == ["cat."]
    assert len(bad) == 1


def test_a_photo_with_a_bad_line_is_left_out_as_a_whole(tmp_path: Path) -> None:
    bad: list[InvalidRecordError] = []
    write_lines(
        tmp_path / "records.jsonl",
        [LINE, LINE | {"source": COCO}, LINE | {"height": 65}, line(TRAINING[1], VOC, {"cat": [DOG]})],
    )
    assert [record.text for record in read_photos(tmp_path, "train", bad.append)] == ["cat."]
    assert [str(error).split("records.jsonl, ")[1].split(", got")[0] for error in bad] == [
        """line 2: its "source" must be 'voc12(rodm)' as in the first line of this photo""",
        """line 3: its "height" must be 64 as in the first line of this photo""",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": []}, 'its "scores" must be one for each box, got 0 for 1 boxes'),
        ({"scores": [None]}, 'its "scores" must be a number, got null'),
        ({"scores": [1.5]}, 'its "scores" must be from 0 to 1'),
        ({"image": TRAIN}, f"there is a line about {TRAIN} already"),
    ],
)
def test_a_bad_line_of_the_detector_is_refused_too(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    seen = [found(TRAIN, []), found(TRAINING[1], [("cat", 0.9, DOG)]) | changes]
    with pytest.raises(InvalidRecordError, match=rf"teacher\.jsonl, line 2: {message}"):
        _read(tmp_path, LINE, teacher=seen)
    assert len(list(read_photos(tmp_path, "train", lambda error: None))) == 1


def test_what_is_no_folder_of_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no file .*records\.jsonl; see docs/photo-tiny\.md"):
        read_photos(tmp_path, "train")
    _read(tmp_path, LINE)
    with pytest.raises(InvalidInputError, match="the split train or val, got 'test'"):
        read_photos(tmp_path, "test")
    (tmp_path / "records.jsonl").write_text("{nonsense\n")
    with pytest.raises(InvalidRecordError, match=r"records\.jsonl, line 1: it is not JSON"):
        list(read_photos(tmp_path, "train"))


def test_the_detectors_classes_are_cocos_eighty() -> None:
    assert len(set(COCO_NAMES)) == 80


def test_the_commands_of_the_document_are_those_of_the_recipe_and_import_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = (ROOT / "docs" / "photo-tiny.md").read_text(encoding="utf-8")
    commands = re.findall(r"^mdetr .+$", document.split("## The folder")[0], flags=re.MULTILINE)
    recipe = (ROOT / "src" / "mdetr" / "recipes" / "photo-tiny.yaml").read_text(encoding="utf-8")
    assert commands == re.findall(r"^#   (mdetr .+)$", recipe, flags=re.MULTILINE)
    write_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    *imports, _ = commands
    for command in imports:
        main(shlex.split(command)[1:])
    stores = load_recipe(ROOT / "src" / "mdetr" / "recipes" / "photo-tiny.yaml").data
    names = [*stores.train, *stores.validation.values()]
    assert [len(Store.open(entry.store)) for entry in names] == [6, 4, 16]
    assert "Wrote 6 records" in capsys.readouterr().out


def test_a_line_as_the_document_shows_it_is_read(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "photo-tiny.md").read_text(encoding="utf-8")
    content = json.loads(document.split("```json")[1].split("```")[0])
    (record,) = _read(tmp_path, content)
    assert record.text == "dog. car. cup."
    assert {"airplane", "cat", "umbrella"} <= set(_absent(record))
