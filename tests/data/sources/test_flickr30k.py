"""Flickr30k Entities' own files against the released records, and damaged ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from mdetr.data.sources.flickr30k import read_flickr30k
from mdetr.errors import InvalidInputError, InvalidRecordError

FOLDER = Path(__file__).parents[2] / "fixtures" / "sources" / "flickr30k"


@pytest.mark.parametrize(("kind", "merged"), [("separate", False), ("merged", True)])
def test_records_are_those_of_the_release(kind: str, merged: bool) -> None:
    release = json.loads((FOLDER / "expected.json").read_text())[kind]
    expected, found = [], []
    for image in release["images"]:
        own = [a for a in release["annotations"] if a["image_id"] == image["id"]]
        boxes = sorted((a["bbox"], sorted(a["tokens_positive"])) for a in own)
        ids = str(image["original_img_id"]), image["sentence_id"]
        size = int(image["width"]), int(image["height"])
        expected.append((*ids, image["caption"], size, image["tokens_positive_eval"], boxes))
    for record in read_flickr30k(FOLDER, "test", merged_boxes=merged):
        extra = json.loads(record.extra)
        boxes = sorted(
            ([x0, y0, x1 - x0, y1 - y0], [list(span) for span in own])
            for (x0, y0, x1, y1), own in zip(record.boxes, record.spans, strict=True)
        )
        asked = [[list(span) for span in phrase.spans] for phrase in record.phrases]
        size = record.width, record.height
        found.append((extra["original_id"], extra["sentence_id"], record.text, size, asked, boxes))
    assert len(expected) == 24
    assert sorted(found) == sorted(expected)


def test_phrases_know_their_types_and_their_boxes_as_annotated() -> None:
    record = next(r for r in read_flickr30k(FOLDER, "test") if r.id == "1000-0")
    extra = json.loads(record.extra)
    assert [record.text[s:e] for phrase in record.phrases for s, e in phrase.spans] == [
        "a bicycle",
        "a two boys",
    ]
    assert extra["phrase_types"] == [["people", "clothing"], ["people", "clothing"]]
    assert extra["phrase_boxes"] == [
        [list(record.boxes[place]) for place in phrase.box_indices] for phrase in record.phrases
    ]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "flickr30k"))


def test_damaged_and_missing_files_are_refused_or_listed(copy: Path) -> None:
    (copy / "Annotations" / "1000.xml").write_text("<annotation><size>")
    (copy / "Annotations" / "1001.xml").unlink()
    with pytest.raises(InvalidRecordError, match=r"1000\.xml: it is damaged"):
        list(read_flickr30k(copy, "test"))
    bad: list[InvalidRecordError] = []
    records = list(read_flickr30k(copy, "test", bad.append))
    assert len(records) == 18
    assert "damaged" in str(bad[0])
    assert "it does not exist" in str(bad[1])


def test_sentences_in_another_encoding_and_odd_numbers_are_refused_or_listed(copy: Path) -> None:
    sentences = copy / "Sentences" / "1000.txt"
    sentences.write_bytes("[/EN#5/people A man] at a café .".encode("latin-1"))
    with pytest.raises(InvalidRecordError, match=r"1000\.txt: it is not UTF-8 text .* save it in UTF-8"):
        list(read_flickr30k(copy, "test"))
    sizes = copy / "Annotations" / "1001.xml"
    sizes.write_text(re.sub("<width>.*</width>", "<width>0</width>", sizes.read_text()))
    boxes = copy / "Annotations" / "1002.xml"
    boxes.write_text(re.sub("<xmin>.*</xmin>", "<xmin>nan</xmin>", boxes.read_text()))
    marked = copy / "Sentences" / "1003.txt"
    marked.write_bytes(b"\xef\xbb\xbf" + marked.read_bytes())  # a byte order mark is no text
    bad: list[InvalidRecordError] = []
    kept = list(read_flickr30k(copy, "test", bad.append))
    told = [str(error).partition(".xml: ")[2] for error in bad]
    assert told[1].startswith("its width and height must be positive, got 0 x ")
    assert told[2:] == ["its xmin is not finite, got the text 'nan'."]
    assert not {"1000", "1001", "1002"} & {record.image_id for record in kept}
    assert next(record for record in kept if record.id == "1003-0").text[0] != "\ufeff"


def test_a_box_outside_its_image_is_refused_with_its_line(copy: Path) -> None:
    file = copy / "Annotations" / "1000.xml"
    file.write_text(file.read_text().replace("<width>472</width>", "<width>100</width>"))
    with pytest.raises(InvalidRecordError, match=r"1000\.txt, line 1: .*leaves the image"):
        list(read_flickr30k(copy, "test"))


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="give the folder of Flickr30k Entities"):
        list(read_flickr30k(tmp_path, "test"))
