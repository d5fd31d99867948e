"""YOLO data sets: layouts, names, lines of all kinds, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mdetr.data.record import Record
from mdetr.data.sources.yolo import read_yolo
from mdetr.errors import InvalidInputError, InvalidRecordError


def _write(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def _image(file: Path, width: int = 200, height: int = 100, orientation: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(file, exif=exif)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training images, of which the second shows nothing, and one for validation, with data.yaml."""
    root = tmp_path / "pets"
    for name in ("train/a.png", "train/b.png", "val/c.png"):
        _image(root / "images" / name)
    _write(root / "labels" / "train" / "a.txt", "0 0.5 0.5 0.2 0.4\n1 0.05 0.1 0.1 0.2\n0 0.9 0.5 0.2 0.2\n")
    _write(root / "labels" / "train" / "b.txt", "")
    _write(root / "labels" / "val" / "c.txt", "1 0.5 0.5 1 1\n")
    _write(root / "data.yaml", "train: images/train\nval: images/val\nnc: 2\nnames: [traffic_light, no]\n")
    return root


def _facts(records: list[Record]) -> list[tuple[str, str, int]]:
    return [(str(record.image), record.text, len(record.boxes)) for record in records]


def test_each_class_of_an_image_is_a_text_with_its_boxes_in_pixels(folder: Path) -> None:
    left_out = Counter[str]()
    lights, no = read_yolo(folder, "train", left_out=left_out)
    assert (lights.source, lights.split, lights.id) == ("pets", "train", "images/train/a.png-traffic_light")
    assert (lights.image, lights.width, lights.height) == ("images/train/a.png", 200, 100)
    assert lights.text == "traffic light"
    assert lights.boxes == (pytest.approx((80, 30, 120, 70)), pytest.approx((160, 40, 200, 60)))
    assert lights.spans == (((0, 13),), ((0, 13),))
    assert lights.category_ids == (0, 0)
    assert (no.text, no.boxes, no.category_ids) == ("no", (pytest.approx((0, 0, 20, 20)),), (1,))
    assert left_out["images with an empty label file"] == 1


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_validation_split_has_three_names(folder: Path, name: str) -> None:
    assert _facts(list(read_yolo(folder, name))) == [("images/val/c.png", "no", 1)]


def test_names_may_be_numbered_and_the_yaml_may_be_named_itself(folder: Path) -> None:
    settings = "path: .\nval: images/val\nnames:\n  0: cat\n  1: off\n"
    file = _write(folder / "other.yaml", settings)
    assert [record.text for record in read_yolo(file, "val")] == ["off"]


def test_splits_may_be_folders_beside_each_other_as_roboflow_exports_them(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "images" / "a.png")
    _write(tmp_path / "train" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.4")
    _write(tmp_path / "data.yaml", "train: ../train/images\nval: ../valid/images\nnames: ['cat']")
    assert _facts(list(read_yolo(tmp_path, "train"))) == [("train/images/a.png", "cat", 1)]
    with pytest.raises(InvalidInputError, match=r"names \.\./valid/images for val, but there is no such"):
        list(read_yolo(tmp_path, "val"))


def test_splits_may_be_lists_of_images_made_on_another_machine(folder: Path) -> None:
    lines = "./images/train/a.png\n\nC:\\data\\pets\\images\\val\\c.png\n./images/train/a.png\n"
    _write(folder / "train.txt", lines)
    _write(folder / "data.yaml", "train: train.txt\nnames: [cat, dog]")
    assert _facts(list(read_yolo(folder, "train"))) == [
        ("images/train/a.png", "cat", 2),
        ("images/train/a.png", "dog", 1),
        ("images/val/c.png", "dog", 1),
    ]


def test_an_export_without_splits_needs_a_list_of_classes_only(tmp_path: Path) -> None:
    _image(tmp_path / "images" / "a.png")
    _write(tmp_path / "labels" / "a.txt", "1 0.5 0.5 0.2 0.4")
    _write(tmp_path / "classes.txt", "cat\nred_fox\n")
    assert _facts(list(read_yolo(tmp_path, "mine"))) == [("images/a.png", "red fox", 1)]


def test_images_may_lie_in_another_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "train").rename(tmp_path / "pictures")
    _write(folder / "data.yaml", "names: [cat, dog]")
    found = list(read_yolo(folder, "train", images=tmp_path / "pictures"))
    assert _facts(found) == [("a.png", "cat", 2), ("a.png", "dog", 1)]


def test_of_a_polygon_the_box_around_it_counts(folder: Path) -> None:
    _write(folder / "labels" / "val" / "c.txt", "0 0.1 0.2 0.5 0.2 0.3 0.6")
    (record,) = read_yolo(folder, "val")
    assert record.boxes == (pytest.approx((20, 20, 100, 60)),)


def test_keypoints_are_passed_over_where_the_settings_name_them(folder: Path) -> None:
    _write(folder / "data.yaml", "val: images/val\nkpt_shape: [2, 3]\nnames: [cat, dog]")
    _write(folder / "labels" / "val" / "c.txt", "0 0.5 0.5 0.2 0.4 0.5 0.5 2 0 0 0")
    (record,) = read_yolo(folder, "val")
    assert record.boxes == (pytest.approx((80, 30, 120, 70)),)


def test_boxes_are_cut_at_the_border_and_repeated_ones_and_confidences_counted(folder: Path) -> None:
    lines = "0 0.05 0.5 0.2 0.4\n0 0.05 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4 0.93\n"
    _write(folder / "labels" / "val" / "c.txt", lines)
    left_out = Counter[str]()
    (record,) = read_yolo(folder, "val", left_out=left_out)
    assert record.boxes == (pytest.approx((0, 30, 30, 70)), pytest.approx((80, 30, 120, 70)))
    assert left_out == {"duplicate boxes": 1, "confidences of boxes": 1}


def test_fractions_are_of_the_upright_photo(folder: Path) -> None:
    (folder / "images" / "val" / "c.png").unlink()
    _image(folder / "images" / "val" / "c.jpg", 240, 160, orientation=6)
    _write(folder / "labels" / "val" / "c.txt", "0 0.5 0.5 0.5 0.5")
    (record,) = read_yolo(folder, "val")
    assert (record.width, record.height, record.boxes) == (160, 240, ((40, 60, 120, 180),))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 0.5 0.5", "line 2: it must be a class and four numbers x, y, width, height"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 0.4", "line 2: it must be a class and four numbers"),
        ("2 0.5 0.5 0.2 0.2", r"line 2: its class 2 is not among the 2 of data\.yaml"),
        ("cat 0.5 0.5 0.2 0.2", "line 2: its number 0 must be a number, got the text 'cat'"),
        ("0.5 0.5 0.5 0.2 0.2", "line 2: its class must be a whole number"),
        ("0 120 50 40 40", "line 2: its numbers must be fractions .* from 0 to 1, got 120"),
        ("0 0.5 nan 0.2 0.2", "line 2: its number 2 is not finite"),
        ("0 0.5 0.5 0 0.2", r"line 2: its box \(100, 40, 100, 60\) is empty"),
    ],
)
def test_a_bad_line_makes_its_image_a_bad_one(folder: Path, line: str, told: str) -> None:
    _write(folder / "labels" / "train" / "b.txt", f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(InvalidRecordError, match=rf"b\.txt: {told}"):
        list(read_yolo(folder, "train"))
    bad: list[InvalidRecordError] = []
    assert [record.image for record in read_yolo(folder, "train", bad.append)] == ["images/train/a.png"] * 2
    assert len(bad) == 1


def test_labels_without_an_image_and_images_without_labels_are_told(folder: Path) -> None:
    (folder / "images" / "train" / "a.png").unlink()
    (folder / "labels" / "train" / "b.txt").unlink()
    (folder / "images" / "val" / "c.png").write_text("no image")
    left_out = Counter[str]()
    bad: list[InvalidRecordError] = []
    assert not list(read_yolo(folder, "train", bad.append, left_out=left_out))
    assert left_out == {"images without a label file": 1}
    assert not list(read_yolo(folder, "val", bad.append))
    assert [str(error).split(": ")[0].rpartition("labels/")[2] for error in bad] == [
        "train/a.txt",
        "val/c.txt",
    ]
    assert "there is no image of its name" in str(bad[0])
    assert "its image is missing or not an image" in str(bad[1])


def test_a_list_that_names_a_missing_image_is_told_with_the_line(folder: Path) -> None:
    _write(folder / "train.txt", "images/train/a.png\nimages/train/z.png\n")
    _write(folder / "data.yaml", "train: train.txt\nnames: [cat, dog]")
    bad: list[InvalidRecordError] = []
    assert len(list(read_yolo(folder, "train", bad.append))) == 2
    assert "train.txt, line 2: there is no image images/train/z.png" in str(bad[0])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("train: images/train", "has no `names`"),
        ("names: [cat", "is not YAML"),
        ("names: [cat, dog]\nnc: 3", "says nc: 3, but names 2 classes"),
        ("names: [cat, [dog]]", r"data\.yaml: its name of a class must be a text, got a list"),
        ("names: {a: cat}", r"data\.yaml: its number of a class must be a whole number"),
        ("names: [cat, dog]\nval: images/val", "There is no split 'test' in .*: .* names val"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(folder: Path, settings: str, told: str) -> None:
    _write(folder / "data.yaml", settings)
    with pytest.raises(InvalidInputError, match=told):
        list(read_yolo(folder, "test"))


def test_missing_names_of_classes_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"expected data\.yaml with `names`, or classes\.txt"):
        list(read_yolo(tmp_path, "train"))
    _write(tmp_path / "classes.txt", "cat\n\ndog\n")
    with pytest.raises(InvalidInputError, match=r"classes\.txt: line 2 has no name"):
        list(read_yolo(tmp_path, "train"))
