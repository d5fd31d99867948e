"""Text files of annotations: plain or compressed, in UTF-8."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from PIL import Image

from mdetr.data.sources.coco import read_coco
from mdetr.data.sources.csv_boxes import read_csv
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.sources.text_files import open_text
from mdetr.errors import InvalidInputError, InvalidRecordError

LINE = {"image": "a.png", "text": "a cat", "boxes": [[1, 2, 9, 8]], "phrases": ["a cat"]}
TABLE = "image,text,label,x0,y0,x1,y1\na.png,a cat,cat,1,2,9,8\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 6]}],
    "categories": [{"id": 1, "name": "cat"}],
}


@pytest.mark.parametrize("is_compressed", [False, True])
def test_every_reader_of_text_takes_compressed_files(tmp_path: Path, is_compressed: bool) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    contents = {"mine.jsonl": json.dumps(LINE), "mine.csv": TABLE, "mine.json": json.dumps(COCO)}
    for name, content in contents.items():
        data = content.encode("utf-8")
        (tmp_path / name).write_bytes(gzip.compress(data) if is_compressed else data)
    boxes = [
        next(read_json_lines(tmp_path / "mine.jsonl", "train")).boxes,
        next(read_csv(tmp_path / "mine.csv", "train")).boxes,
        next(read_coco(tmp_path / "mine.json", "train")).boxes,
    ]
    assert boxes == [((1, 2, 9, 8),)] * 3


def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(json.dumps(COCO | {"info": list(range(20_000))}).encode())
    file = tmp_path / "cut.json"
    for length in (30, len(content) - 20):
        file.write_bytes(content[:length])
        with pytest.raises(InvalidInputError, match=r"cut\.json (cannot be decomp|is not a JSON)"):
            list(read_coco(file, "train"))


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_utf_16_is_recognized(tmp_path: Path, compress: type[bytes]) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(compress("a cat".encode("utf-16")))
    with pytest.raises(InvalidInputError, match="looks like UTF-16; save it in UTF-8"):
        open_text(file)


def test_an_image_that_is_listed_twice_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(COCO | {"images": COCO["images"] * 2}))
    with pytest.raises(InvalidRecordError, match=r"coco\.json, image 1: its id 1 is a duplicate"):
        list(read_coco(file, "train"))
    bad: list[InvalidRecordError] = []
    assert [record.text for record in read_coco(file, "train", bad.append)] == ["cat"]
    assert len(bad) == 1
