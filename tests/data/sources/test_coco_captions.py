"""COCO's captions with its instances: which words belong to which boxes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.sources.coco_captions import UNNAMED, ClassNames, name_forms, read_coco_captions
from mdetr.errors import InvalidInputError, InvalidRecordError

NAMES = {1: "person", 18: "dog", 58: "hot dog", 49: "knife", 21: "cow"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image with a person, two dogs, a cow and a crowd of cows; three captions of it."""
    boxes = [(1, 0, 0, 10, 20), (18, 20, 30, 10, 10), (18, 40, 30, 20, 10), (21, 70, 5, 20, 20)]
    annotations: list[dict[str, Any]] = [
        {"id": 100 + place, "image_id": 7, "category_id": category, "bbox": box}
        for place, (category, *box) in enumerate(boxes)
    ]
    annotations += [annotations[3] | {"id": 110, "iscrowd": 1}]
    instances = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 100, "height": 50}],
        "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
        "annotations": annotations,
    }
    texts = ["People walk two DOGS, one dog on a leash.", "A hot dog stand.", " A cow near a tree. "]
    captions = [{"id": 900 + place, "image_id": 7, "caption": text} for place, text in enumerate(texts)]
    (tmp_path / "annotations").mkdir()
    _write(tmp_path, "instances", instances)
    _write(tmp_path, "captions", {"images": instances["images"], "annotations": captions})
    return tmp_path


def _write(folder: Path, kind: str, content: dict[str, Any]) -> None:
    (folder / "annotations" / f"{kind}_train.json").write_text(json.dumps(content))


def _read(folder: Path, kind: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "annotations" / f"{kind}_train.json").read_text())
    return content


def test_names_of_classes_in_a_caption_belong_to_all_boxes_of_the_class(folder: Path) -> None:
    left_out = Counter[str]()
    people, cow = read_coco_captions(folder, "train", left_out=left_out)
    assert (people.id, people.image, people.image_id) == ("900", "train/7.jpg", "7")
    assert (people.width, people.height) == (100, 50)
    assert people.boxes == ((0, 0, 10, 20), (20, 30, 30, 40), (40, 30, 60, 40))
    words = [[people.text[start:end] for start, end in spans] for spans in people.spans]
    assert words == [["People"], ["DOGS", "dog"], ["DOGS", "dog"]]
    assert people.category_ids == (1, 18, 18)
    assert (cow.text, cow.boxes, cow.spans) == ("A cow near a tree.", ((70, 5, 90, 25),), (((2, 5),),))
    assert left_out == {UNNAMED: 1}  # the hot dog stand: there are dogs, but no hot dog


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a hot dog and a dog", {58: ["hot dog"], 18: ["dog"]}),
        ("hot-dogs, knives", {58: ["hot-dogs"], 49: ["knives"]}),
        ("a dogged personal cowboy", {}),
        ("Knife", {49: ["Knife"]}),
    ],
)
def test_names_are_whole_words_and_the_longest_counts(text: str, expected: dict[int, list[str]]) -> None:
    found = ClassNames(NAMES).find(text)
    assert {number: [text[a:b] for a, b in spans] for number, spans in found.items()} == expected


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        *(("bus", "buses"), ("bench", "benches"), ("teddy bear", "teddy bears"), ("box", "boxes")),
        *(("cherry", "cherries"), ("key", "keys"), ("wine glass", "wine glasses"), ("mouse", "mice")),
    ],
)
def test_plurals_are_those_of_english(name: str, plural: str) -> None:
    assert name_forms(name) == (name, plural)


def test_no_names_are_found_nowhere() -> None:
    assert ClassNames({}).find("a dog") == {}


@pytest.mark.parametrize(
    ("kind", "place", "change", "told"),
    [
        (
            "captions",
            0,
            {"caption": None},
            r"captions_train\.json, annotation 900: its \"caption\" must be a text",
        ),
        ("captions", 0, {"caption": " "}, 'annotation 900: its "caption" is empty'),
        ("captions", 0, {"image_id": 8}, "1 images have captions but no entry in instances_train.json"),
        ("captions", 0, {"image_id": None}, r"captions_train\.json, annotation 0: its \"image_id\" must be"),
        ("instances", 1, {"bbox": [1, 2]}, "annotation 101: its box must be four numbers"),
        ("instances", 1, {"category_id": 99}, "category 99 is not in the file"),
    ],
)
def test_a_bad_entry_is_refused_with_its_place(
    folder: Path, kind: str, place: int, change: dict[str, Any], told: str
) -> None:
    content = _read(folder, kind)
    content["annotations"][place] |= change
    _write(folder, kind, content)
    with pytest.raises(InvalidRecordError, match=told):
        list(read_coco_captions(folder, "train"))
    bad: list[InvalidRecordError] = []
    assert len(list(read_coco_captions(folder, "train", bad.append))) < 2
    assert bad


def test_a_missing_file_is_told_with_those_that_are_there(folder: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"no file .*captions_val\.json; its folder has captions_train"
    ):
        list(read_coco_captions(folder, "val"))
