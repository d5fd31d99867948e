"""COCO's instances: class names as texts; crowds, masks, damaged files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.prompts import class_prompt
from mdetr.data.sources.coco import read_coco
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks

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


def test_what_is_left_out_on_purpose_is_counted(content: dict[str, Any], tmp_path: Path) -> None:
    left_out: Counter[str] = Counter()
    content["annotations"].append(_annotation(6, 1, bbox=[29.999999999, 3, 1e-9, 4]))  # empty in 32 bits
    _write(tmp_path, content)
    assert len(list(read_coco(tmp_path, "val", left_out=left_out))) == 2
    assert left_out == {"boxes of crowds": 1, "boxes without area in their image": 2}


def test_a_class_is_trained_as_the_text_that_detection_asks(content: dict[str, Any], tmp_path: Path) -> None:
    content["categories"] = [{"id": 1, "name": "traffic_light"}, {"id": 18, "name": "bow_(weapon)"}]
    _write(tmp_path, content)
    light, bow = read_coco(tmp_path, "val")
    assert (light.text, light.spans) == (class_prompt("traffic_light"), (((0, 13),),))
    assert light.text == "traffic light"
    assert bow.text == class_prompt("bow_(weapon)")


def test_ids_of_images_may_be_texts_and_ids_may_be_quoted(content: dict[str, Any], tmp_path: Path) -> None:
    content["images"][0]["id"] = "img_1"
    content["images"].append({"id": 12, "file_name": "12.jpg", "width": "30", "height": 20})
    for annotation in content["annotations"]:
        annotation |= {"image_id": "img_1", "category_id": str(annotation["category_id"])}
    content["annotations"].append(_annotation(6, 1, image_id="12"))
    _write(tmp_path, content)
    records = list(read_coco(tmp_path, "val"))
    assert [(record.id, record.image_id) for record in records] == [
        ("img_1-1", "img_1"),
        ("img_1-18", "img_1"),
        ("12-1", "12"),
    ]


@pytest.mark.parametrize("is_crowd", ["0", 0, False, None])
def test_no_crowd_may_be_said_in_several_ways(is_crowd: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"] = [_annotation(1, 1, iscrowd=is_crowd)]
    _write(tmp_path, content)
    assert [len(record.boxes) for record in read_coco(tmp_path, "val")] == [1]


@pytest.mark.parametrize("area", [{}, {"area": None}, {"area": 0}])
def test_an_area_that_is_not_told_is_that_of_the_mask_or_the_box(
    area: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    triangle = [[0, 0, 20, 0, 0, 20]]
    content["annotations"] = [
        _annotation(1, 1, bbox=[0, 0, 20, 20], segmentation=triangle) | area,
        _annotation(2, 18, bbox=[2, 2, 6, 4], segmentation=None) | area,
    ]
    _write(tmp_path, content)
    of_mask, of_box = (json.loads(record.extra or "")["areas"] for record in read_coco(tmp_path, "val"))
    assert of_mask == [pytest.approx(200, abs=20)]
    assert of_box == [24]


@pytest.mark.parametrize(
    ("where", "changes", "told"),
    [
        ("images", {"width": 0, "height": 0}, "image 0: its width and height must be positive, got 0 x 0"),
        ("images", {"file_name": None}, 'image 0: its "file_name" must be a text, got null'),
        ("categories", {"name": None}, 'category 0: its "name" must be a text, got null'),
        ("categories", {"name": ["a"]}, 'category 0: its "name" must be a text, got a list'),
        ("categories", {"name": "\ud83d"}, 'category 0: its "name" is not valid Unicode'),
        ("annotations", {"bbox": [float("nan"), 1, 2, 3]}, "image 0: annotation 1: its box is not finite"),
        ("annotations", {"bbox": [1, 2, 3]}, "image 0: annotation 1: its box must be four numbers"),
        ("annotations", {"iscrowd": "no"}, 'image 0, annotation 1: its "iscrowd" must be 0 or 1'),
        ("annotations", {"area": -4}, 'annotation 1: its "area" must not be negative'),
        (
            "annotations",
            {"segmentation": [[1, 2, float("nan"), 4, 5, 6]]},
            "a polygon of its mask is not finite",
        ),
        ("annotations", {"segmentation": {"counts": [10, 590.0]}}, "annotation 1: its mask's run lengths"),
        ("annotations", {"category_id": True}, 'its "category_id" must be a whole number, got true'),
    ],
)
def test_a_bad_field_is_named_with_its_entry_or_left_out(
    where: str, changes: dict[str, Any], told: str, content: dict[str, Any], tmp_path: Path
) -> None:
    content["annotations"] = [_annotation(1, 1)]
    content["categories"] = content["categories"][:1]
    content[where][0] |= changes
    file = _write(tmp_path, content)
    with pytest.raises(InvalidRecordError, match=rf"instances_val\.json, .*{told}"):
        list(read_coco(file, "val"))
    bad: list[InvalidRecordError] = []
    assert list(read_coco(file, "val", bad.append)) == []
    assert told in str(bad[0])


def test_missing_and_damaged_files_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    file = _write(tmp_path, content)
    with pytest.raises(InvalidInputError, match="its folder has instances_val"):
        list(read_coco(tmp_path, "train"))
    del content["annotations"][0]["image_id"]
    _write(tmp_path, content)
    with pytest.raises(InvalidRecordError, match=r'annotation 0: it has no "image_id"'):
        list(read_coco(tmp_path, "val"))
    file.write_text("[")
    with pytest.raises(InvalidInputError, match="is not a JSON object"):
        list(read_coco(tmp_path, "val"))
