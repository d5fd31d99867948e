"""Pascal VOC folders: lists, boxes counted from 1, difficult objects, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mdetr.data.sources.pascal_voc import read_voc
from mdetr.errors import InvalidInputError, InvalidRecordError

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part></object>"""


def _object(name: str, x0: object, y0: object, x1: object, y1: object, difficult: int = 0) -> str:
    return OBJECT.format(name=name, x0=x0, y0=y0, x1=x1, y1=y1, difficult=difficult)


def _annotate(file: Path, *objects: str, image: str = "", size: tuple[int, int] = (200, 100)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    side = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    image = image or f"{file.stem}.jpg"
    file.write_text(f"<annotation><filename>{image}</filename>{side}{''.join(objects)}</annotation>")


def _image(file: Path, width: int = 200, height: int = 100) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of the list train, one of the list val."""
    root = tmp_path / "VOC2012"
    for name in "abc":
        _image(root / "JPEGImages" / f"{name}.jpg")
    whole = _object("dog", 1, 1, 200, 100)
    _annotate(root / "Annotations" / "a.xml", whole, _object("dining_table", 11, 21, 50, 60), whole)
    _annotate(root / "Annotations" / "b.xml", _object("cat", 5, 5, 9, 9, difficult=1))
    _annotate(root / "Annotations" / "c.xml", _object("cat", 5, 5, 9, 9))
    for name, content in (("train", "a\nb\n"), ("val", "c  1\n")):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def test_boxes_are_counted_from_one_and_hold_their_last_pixel(folder: Path) -> None:
    left_out = Counter[str]()
    dogs, table = read_voc(folder, "train", left_out=left_out)
    assert (dogs.source, dogs.split, dogs.id, dogs.image) == (
        *("VOC2012", "train", "a-dog"),
        "JPEGImages/a.jpg",
    )
    assert (dogs.text, dogs.boxes) == ("dog", ((0, 0, 200, 100), (0, 0, 200, 100)))
    assert (table.text, table.boxes, table.spans) == ("dining table", ((10, 20, 50, 60),), (((0, 12),),))
    assert left_out == {"objects marked difficult": 1}
    assert [record.id for record in read_voc(folder, "val")] == ["c-cat"]


def test_an_unknown_list_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"There is no list .*test\.txt; the splits .* are: train, val"
    ):
        list(read_voc(folder, "test"))


def test_without_lists_all_files_are_read_and_images_found_by_name(tmp_path: Path) -> None:
    _image(tmp_path / "images" / "a.PNG")
    _annotate(tmp_path / "Annotations" / "a.xml", _object("dog", 1, 1, 5, 5), image="C:\\pictures\\a.jpeg")
    (record,) = read_voc(tmp_path, "mine")
    assert record.image == "images/a.PNG"


def test_files_may_lie_beside_their_images_and_images_elsewhere(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "a.jpg")
    _annotate(tmp_path / "train" / "a.xml", _object("dog", 1, 1, 5, 5))
    assert [record.image for record in read_voc(tmp_path, "train")] == ["train/a.jpg"]
    (tmp_path / "train" / "a.jpg").rename(tmp_path / "a.jpg")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "pictures" / "a.jpg")
    found = list(read_voc(tmp_path, "train", images=tmp_path / "pictures"))
    assert [record.image for record in found] == ["a.jpg"]


def test_images_may_be_in_subfolders_like_those_of_the_annotations(tmp_path: Path) -> None:
    for folder in ("images", "images/day", "images/night"):
        _image(tmp_path / folder / "a.jpg")
    for folder in ("day", "night"):
        _annotate(tmp_path / "Annotations" / folder / "a.xml", _object("dog", 1, 1, 5, 5))
    records = list(read_voc(tmp_path, "train"))
    assert [record.image for record in records] == ["images/day/a.jpg", "images/night/a.jpg"]
    assert [record.id for record in records] == ["day/a-dog", "night/a-dog"]


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (_object("dog", 1, 1, 203, 50), r"object 0 \(dog\): its box .* leaves the image of 200 x 100 pixels"),
        (_object("dog", 60, 1, 50, 50), r"object 0 \(dog\): its box .* is empty"),
        (_object("dog", "left", 1, 50, 50), "object 0: its xmin must be a number, got the text 'left'"),
        (_object(" ", 1, 1, 50, 50), "object 0: its name is empty"),
        (_object("(other)", 1, 1, 50, 50), r"the name of its class '\(other\)' has no words"),
        ("<object><name>dog</name></object>", "object 0: it has no bndbox"),
        ("<object>", "it is not XML"),
    ],
)
def test_a_bad_object_makes_its_image_a_bad_one(folder: Path, thing: str, told: str) -> None:
    _annotate(folder / "Annotations" / "b.xml", thing)
    with pytest.raises(InvalidRecordError, match=rf"b\.xml: {told}"):
        list(read_voc(folder, "train"))
    bad: list[InvalidRecordError] = []
    assert [record.id for record in read_voc(folder, "train", bad.append)] == ["a-dog", "a-dining_table"]
    assert len(bad) == 1


def test_boxes_of_another_version_of_the_image_are_refused(folder: Path) -> None:
    _annotate(folder / "Annotations" / "c.xml", _object("cat", 5, 5, 9, 9), size=(100, 200))
    with pytest.raises(
        InvalidRecordError, match=r"its image has 100 x 200 pixels, but .*c\.jpg has 200 x 100"
    ):
        list(read_voc(folder, "val"))


def test_missing_files_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "JPEGImages" / "a.jpg").unlink()
    (folder / "Annotations" / "b.xml").unlink()
    bad: list[InvalidRecordError] = []
    assert not list(read_voc(folder, "train", bad.append))
    assert "a.xml: its image a.jpg is not in" in str(bad[0])
    assert "b.xml: it does not exist, though the list of its split names it" in str(bad[1])
    with pytest.raises(InvalidInputError, match="There is no XML file in"):
        list(read_voc(tmp_path, "train"))
