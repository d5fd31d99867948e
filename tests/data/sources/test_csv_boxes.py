"""Tables of boxes: columns, texts and labels, joined rows, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mdetr.data.sources.csv_boxes import read_csv
from mdetr.errors import InvalidInputError, InvalidRecordError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a.png of 200 x 100 pixels and b.png of 60 x 40."""
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "b.png")
    return tmp_path


def _table(folder: Path, *lines: str) -> Path:
    (folder / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "mine.csv"


def test_rows_of_one_image_and_text_are_one_record(folder: Path) -> None:
    file = _table(
        folder,
        "image,text,label,x0,y0,x1,y1",
        'a.png,"a cat, and a red mat",cat,10,20,30,40',
        "b.png,two dogs,,1,2,30,20",
        'a.png,"a cat, and a red mat",Red Mat,50,60,70,80.5',
    )
    cat, dogs = read_csv(file, "train")
    assert (cat.source, cat.split, cat.id, cat.image) == ("mine", "train", "a.png-1", "a.png")
    assert (cat.width, cat.height, cat.boxes) == (200, 100, ((10, 20, 30, 40), (50, 60, 70, 80.5)))
    assert [cat.text[start:end] for ((start, end),) in cat.spans] == ["cat", "red mat"]
    assert (dogs.text, dogs.boxes, dogs.spans) == ("two dogs", ((1, 2, 30, 20),), (((0, 8),),))


def test_a_label_alone_becomes_the_text_that_asks_for_its_class(folder: Path) -> None:
    file = _table(folder, "image,label,x,y,w,h", "a.png,traffic_light,10,20,30,40", "a.png,cat,0,0,9,9")
    light, cat = read_csv(file, "train")
    assert (light.text, light.boxes, light.spans) == ("traffic light", ((10, 20, 40, 60),), (((0, 13),),))
    assert (cat.id, cat.text) == ("a.png-2", "cat")


@pytest.mark.parametrize(
    "header",
    [
        "Filename,width,height,class,xmin,ymin,xmax,ymax",
        "image_path;WIDTH;height;label;x1;y1;x2;y2",
        "\ufeffimage\twidth\theight\tphrase\tx0\ty0\tx1\ty1",
    ],
)
def test_columns_may_have_the_names_that_other_tools_give(folder: Path, header: str) -> None:
    separator = next(mark for mark in ",;\t" if mark in header)
    row = separator.join(["a.png", "200", "100", "cat", "10", "20", "30", "40"])
    left_out = Counter[str]()
    (record,) = read_csv(_table(folder, header, row), "train", left_out=left_out)
    assert (record.text, record.boxes) == ("cat", ((10, 20, 30, 40),))
    assert not left_out


def test_width_and_height_beside_x_and_y_are_those_of_the_box(folder: Path) -> None:
    (record,) = read_csv(_table(folder, "image,text,x,y,width,height", "a.png,cat,1,2,3,4"), "train")
    assert record.boxes == ((1, 2, 4, 6),)


def test_a_row_without_a_box_adds_a_text_without_one(folder: Path) -> None:
    (record,) = read_csv(_table(folder, "image,text,x0,y0,x1,y1", "a.png,no cat,,,,"), "train")
    assert (record.text, record.boxes) == ("no cat", ())


def test_what_is_not_read_is_counted(folder: Path) -> None:
    file = _table(
        folder,
        "image,label,x0,y0,x1,y1,split,confidence",
        *["a.png,cat,1,2,3,4,train,0.9"] * 2,
        "a.png,cat,5,5,9,9,val,0.9",
    )
    left_out = Counter[str]()
    (record,) = read_csv(file, "train", left_out=left_out)
    assert record.boxes == ((1, 2, 3, 4),)
    assert left_out == {
        "columns that are not read (confidence)": 1,
        "rows of other splits": 1,
        "duplicate rows": 1,
    }


def test_images_may_lie_elsewhere_and_are_taken_upright(folder: Path) -> None:
    (folder / "pictures").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (240, 160)).save(folder / "pictures" / "photo.jpg", exif=exif)
    file = _table(folder, "image,text,x0,y0,x1,y1", "photo.jpg,cat,0,0,160.6,240")
    (record,) = read_csv(file, "train", images=folder / "pictures")
    assert (record.width, record.height, record.boxes) == (160, 240, ((0, 0, 160, 240),))


HEADER = "image,text,label,x0,y0,x1,y1,width,height"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("b.png,a cat,cat,1,2,3", "line 3: it has 6 cells, but the header has another number"),
        (",a cat,cat,1,2,3,4,,", 'line 3: its "image" is empty'),
        ("b.png,,cat,1,2,3,4,,", 'line 3: its "text" is empty'),
        ("b.png,a cat,dog,1,2,3,4,,", "image 'b.png': line 3: the phrase 'dog' is not in the text 'a cat'"),
        ("b.png,a cat,cat,1,,3,4,,", "image 'b.png': line 3: its \"y0\" must be a number, got the text ''"),
        ("b.png,a cat,cat,1,inf,3,4,,", "image 'b.png': line 3: its \"y0\" is not finite"),
        ("b.png,a cat,cat,1,2,90,4,,", r"line 3: its box \(1, 2, 90, 4\) leaves the image of 60 x 40 pixels"),
        ("b.png,a cat,cat,9,2,3,4,,", r"line 3: its box \(9, 2, 3, 4\) is empty"),
        ("b.png,a cat,cat,1,2,3,4,40,60", "its image has 40 x 60 pixels, but it has 60 x 40"),
        ("z.png,a cat,cat,1,2,3,4,,", r"image 'z\.png': .* is missing or not an image"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(folder: Path, row: str, told: str) -> None:
    file = _table(folder, HEADER, "a.png,a dog,dog,1,2,3,4,,", row)
    with pytest.raises(InvalidRecordError, match=rf"mine\.csv, .*{told}"):
        list(read_csv(file, "train"))
    bad: list[InvalidRecordError] = []
    assert [record.text for record in read_csv(file, "train", bad.append)] == ["a dog"]
    assert len(bad) == 1


def test_of_a_text_with_a_bad_row_nothing_is_kept(folder: Path) -> None:
    file = _table(folder, HEADER, "a.png,a dog,dog,1,2,3,4,,", "a.png,a dog,dog,1,2,one,4,,")
    bad: list[InvalidRecordError] = []
    assert not list(read_csv(file, "train", bad.append))
    assert 'line 3: its "x1" must be a number' in str(bad[0])


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("image,text,x0,y0,x1", "lacks the columns x0, y0, x1, y1"),
        ("x0,y0,x1,y1", "lacks the columns image and text or label"),
        ("a.png,cat,1,2,3,4", "its first line must name the columns, got a.png, cat, 1"),
        ("image,text,text,x0,y0,x1,y1", "has two columns 'text'"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(folder: Path, header: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        list(read_csv(_table(folder, header, "a.png,cat,1,2,3,4"), "train"))


def test_other_encodings_are_refused_and_missing_files_told(folder: Path) -> None:
    file = _table(folder, "image,text,x0,y0,x1,y1", "a.png,ein Kätzchen,1,2,3,4")
    file.write_bytes(file.read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(InvalidRecordError, match="line 2: it is not UTF-8 text; save the file in UTF-8"):
        list(read_csv(file, "train"))
    file.write_bytes(file.read_bytes().decode("latin-1").encode("utf-16"))
    with pytest.raises(InvalidInputError, match="looks like UTF-16"):
        list(read_csv(file, "train"))
    with pytest.raises(InvalidInputError, match=r"There is no file .*train\.csv; give a table"):
        list(read_csv(folder, "train"))
