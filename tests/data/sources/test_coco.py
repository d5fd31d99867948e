"""COCO's instances: class names as texts; crowds, masks, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.sources.coco import read_coco
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.rle import decode_masks

SQUARE = [[2, 2, 8, 2, 8, 6, 2, 6]]


def _annotation(number: int, category: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": number, "image_id": 9, "category_id": category, "bbox": [2, 2, 6, 4], "iscrowd": 0}
    return plain | {"segmentation": SQUARE} | changes


@pytest.fixture
def content() -> dict[str, Any]:
    runs = {"size": [20, 30], "counts": [0, 20, 580]}
    return {
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "hot dog"}],
        "images": [{"id": 9, "file_name": "9.jpg", "width": 30, "height": 20}],
        "annotations": [
            _annotation(1, 18),
            _annotation(2, 1, segmentation=runs, bbox=[0, 0, 1, 20]),
            _annotation(3, 18, bbox=[20, 10, 30, 30]),
            _annotation(4, 1, iscrowd=1),
            _annotation(5, 1, bbox=[3, 3, 0, 4]),
        ],
    }


def _write(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "annotations").mkdir(exist_ok=True)
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps(content))
    return file


def test_each_class_of_an_image_is_a_text_with_all_its_boxes(content: dict[str, Any], tmp_path: Path) -> None:
    _write(tmp_path, content)
    person, hot_dog = read_coco(tmp_path, "val")
    assert (person.text, person.boxes, person.category_ids) == ("person", ((0, 0, 1, 20),), (1,))
    assert (hot_dog.text, hot_dog.image) == ("hot dog", "val/9.jpg")
    assert hot_dog.boxes == ((2, 2, 8, 6), (20, 10, 30, 20))
    assert hot_dog.spans == (((0, 7),), ((0, 7),))
    assert decode_masks(hot_dog.masks, 20, 30)[0].sum() == 24
    assert decode_masks(person.masks, 20, 30)[0, :, 0].all()
    assert json.loads(person.extra or "")["crowds"] == [[1, 2, 2, 8, 6]]  # once an image, with its class
    assert "crowds" not in json.loads(hot_dog.extra or "")


def test_a_file_by_itself_names_images_as_it_does(content: dict[str, Any], tmp_path: Path) -> None:
    records = list(read_coco(_write(tmp_path, content), "mine"))
    assert [(record.image, record.split) for record in records] == [("9.jpg", "mine")] * 2


def test_unknown_categories_and_lost_images_are_named_or_listed(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["annotations"] = [_annotation(1, 2), _annotation(2, 1), _annotation(3, 1, image_id=77)]
    _write(tmp_path, content)
    bad: list[InvalidRecordError] = []
    assert [record.text for record in read_coco(tmp_path, "val", bad.append)] == ["person"]
    assert "image 0: category 2 is not in the file" in str(bad[0])
    assert "1 images have annotations but no entry, such as image 77" in str(bad[1])
    with pytest.raises(InvalidRecordError, match="category 2"):
        list(read_coco(tmp_path, "val"))


def test_missing_and_damaged_files_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    file = _write(tmp_path, content)
    with pytest.raises(InvalidInputError, match="found instances_val"):
        list(read_coco(tmp_path, "train"))
    del content["annotations"][0]["image_id"]
    _write(tmp_path, content)
    with pytest.raises(InvalidRecordError, match=r'annotation 0: it has no "image_id"'):
        list(read_coco(tmp_path, "val"))
    file.write_text("[")
    with pytest.raises(InvalidInputError, match="is not a JSON object"):
        list(read_coco(tmp_path, "val"))
