"""The user's own lines: phrases as words or spans, and each fault named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdetr.data.sources.json_lines import read_json_lines
from mdetr.errors import InvalidInputError, InvalidRecordError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path


def _write(folder: Path, *entries: Any) -> Path:
    file = folder / "train.jsonl"
    file.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))
    return file


GOOD = {
    "image": "a.png",
    "text": "a cat and two cats on a mat",
    "boxes": [[1, 2, 10, 12], [3, 4, 20, 22], [0, 20, 40, 30]],
    "phrases": ["a cat", [[10, 18]], "A mat"],
}


def test_phrases_are_words_or_spans(folder: Path) -> None:
    question = {"image": "a.png", "text": "how many?", "answer": 2, "answer_type": "reg", "id": "q"}
    first, second = read_json_lines(_write(folder, GOOD, "", question), "train")
    assert first.spans == (((0, 5),), ((10, 18),), ((22, 27),))
    assert (first.width, first.height, first.id, first.source) == (40, 30, "1", "train")
    assert (second.id, second.answer, second.answer_type, second.boxes) == ("q", "2", "reg", ())
    assert [record.text for record in read_json_lines(folder, "train")] == [GOOD["text"], "how many?"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{", "it is not JSON"),
        ({"image": "a.png"}, 'at least "image" and "text"'),
        (GOOD | {"phrase": []}, "unknown field 'phrase'; the fields are answer, "),
        (GOOD | {"phrases": ["a dog", "cat", "mat"]}, "the phrase 'a dog' is not in the text"),
        (GOOD | {"phrases": ["at", "cat", "mat"]}, "the phrase 'at' is not in the text"),
        (GOOD | {"phrases": ["a cat"]}, "spans must have one entry per box, found 1 for 3"),
        (GOOD | {"phrases": [[[0, 99]], "cat", "mat"]}, "outside its text"),
        (GOOD | {"boxes": [[1, 2, 50, 12]], "phrases": ["cat"]}, "leaves the image"),
        (GOOD | {"boxes": [[1, 2, 3]], "phrases": ["cat"]}, "a field is of the wrong kind"),
        (GOOD | {"image": "b.png"}, r"b\.png is missing or not an image"),
        (GOOD | {"id": 1}, "the id '1' is there twice"),
    ],
)
def test_a_fault_is_named_with_its_line_or_listed(folder: Path, entry: Any, message: str) -> None:
    file = _write(folder, GOOD, entry, {**GOOD, "id": "last"})
    with pytest.raises(InvalidRecordError, match=rf"train\.jsonl, line 2: .*{message}"):
        list(read_json_lines(file, "train"))
    bad: list[InvalidRecordError] = []
    assert [record.id for record in read_json_lines(file, "train", bad.append)] == ["1", "last"]
    assert len(bad) == 1


def test_a_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no file .*val\.jsonl"):
        list(read_json_lines(folder, "val"))
