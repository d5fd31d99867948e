"""The user's own lines: phrases as words or spans, and each fault named with its line."""

from __future__ import annotations

import json
import math
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
        (GOOD | {"phrases": ["a cat"]}, 'it has 1 "phrases" and 3 "boxes"; give the words of each box'),
        (GOOD | {"phrases": [[[0, 99]], "cat", "mat"]}, "outside its text"),
        (GOOD | {"boxes": [[1, 2, 50, 12]], "phrases": ["cat"]}, "leaves the image"),
        (GOOD | {"boxes": [[1, 2, 3]], "phrases": ["cat"]}, "its box 0 must be four numbers x0, y0, x1, y1"),
        (GOOD | {"boxes": [[1, 2, 3, None]], "phrases": ["cat"]}, "its box 0 must be a number, got null"),
        (GOOD | {"boxes": [[1, 2, 3, math.nan]], "phrases": ["cat"]}, "its box 0 is not finite"),
        (GOOD | {"boxes": {"a": 1}}, 'its "boxes" must be a list, got an object'),
        (GOOD | {"text": None}, 'its "text" must be a text, got null'),
        (GOOD | {"text": ["a", "cat"]}, 'its "text" must be a text, got a list'),
        (GOOD | {"text": False}, 'its "text" must be a text, got false'),
        (GOOD | {"text": 7}, 'its "text" must be a text, got 7'),
        (GOOD | {"text": "a cat \ud83d"}, 'its "text" is not valid Unicode'),
        (GOOD | {"image": None}, 'its "image" must be a text, got null'),
        (GOOD | {"image": "\ud83d.png"}, 'its "image" is not valid Unicode'),
        (GOOD | {"answer": True}, 'its "answer" must be a text, got true'),
        (GOOD | {"answer": ["2"]}, 'its "answer" must be a text, got a list'),
        (GOOD | {"answer": "\ud83d"}, 'its "answer" is not valid Unicode'),
        (GOOD | {"answer": "2", "answer_type": ["obj"]}, 'its "answer_type" must be a text, got a list'),
        (GOOD | {"id": None}, 'its "id" must be a text or a whole number, got null'),
        (GOOD | {"id": True}, 'its "id" must be a text or a whole number, got true'),
        (GOOD | {"id": "\ud83d"}, 'its "id" is not valid Unicode'),
        (GOOD | {"phrases": [None, "cat", "mat"]}, "its phrase 0 must be words of its text, or spans"),
        (GOOD | {"phrases": [[0, 3], "cat", "mat"]}, "its phrase 0 must be words of its text, or spans"),
        (GOOD | {"phrases": [[[0, 1.5]], "cat", "mat"]}, "its phrase 0: its end must be a whole number"),
        (GOOD | {"is_referred": ["false", "true", "true"]}, "true and false only, got the text 'false'"),
        (GOOD | {"is_referred": [1, 0, 0]}, "true and false only, got 1"),
        (GOOD | {"is_referred": True}, 'its "is_referred" must be a list, got true'),
        (GOOD | {"image": "b.png"}, r"b\.png is missing or not an image"),
        (GOOD | {"id": 1}, "the id '1' is a duplicate"),
    ],
)
def test_a_fault_is_named_with_its_line_or_listed(folder: Path, entry: Any, message: str) -> None:
    file = _write(folder, GOOD, entry, {**GOOD, "id": "last"})
    with pytest.raises(InvalidRecordError, match=rf"train\.jsonl, line 2: .*{message}"):
        list(read_json_lines(file, "train"))
    with pytest.raises(InvalidRecordError) as caught:
        list(read_json_lines(file, "train"))
    assert str(caught.value).count("line 2") == 1
    bad: list[InvalidRecordError] = []
    assert [record.id for record in read_json_lines(file, "train", bad.append)] == ["1", "last"]
    assert len(bad) == 1


def test_what_is_null_or_left_out_is_not_there(folder: Path) -> None:
    entry = {
        "image": "a.png",
        "text": "a cat",
        "boxes": None,
        "phrases": None,
        "is_referred": None,
        "answer": None,
    }
    (record,) = read_json_lines(_write(folder, entry), "train")
    assert (record.boxes, record.spans, record.is_referred, record.answer) == ((), (), None, None)
    (record,) = read_json_lines(_write(folder, {**entry, "boxes": [[1, 2, 3, 4]]}), "train")
    assert record.spans == ((),)


def test_phrases_are_found_in_any_script_with_spans_of_the_text_as_given(folder: Path) -> None:
    entry = {"image": "a.png", "text": "a  red\ncube 红色的立方体", "boxes": [[1, 2, 3, 4]] * 2}
    (record,) = read_json_lines(_write(folder, {**entry, "phrases": ["red cube", "立方体"]}), "train")
    assert record.text == "a  red\ncube 红色的立方体"
    assert record.spans == (((3, 11),), ((15, 18),))


def test_a_byte_order_mark_is_passed_over(folder: Path) -> None:
    file = _write(folder, GOOD)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert [record.text for record in read_json_lines(file, "train")] == [GOOD["text"]]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_refused_in_a_sentence(folder: Path, encoding: str) -> None:
    file = _write(folder, GOOD)
    file.write_text(json.dumps(GOOD), encoding=encoding)
    with pytest.raises(InvalidInputError, match=r"train\.jsonl is not UTF-8 text .* save it in UTF-8"):
        list(read_json_lines(file, "train", on_bad=print))


def test_a_line_in_latin_1_is_refused_or_left_out(folder: Path) -> None:
    file = _write(folder, GOOD)
    line = '\n{"image": "a.png", "text": "un café"}'
    file.write_bytes(file.read_bytes() + line.encode("latin-1") + line.encode("utf-8"))
    with pytest.raises(
        InvalidRecordError, match=r"train\.jsonl, line 2: it is not UTF-8 text; save the file"
    ):
        list(read_json_lines(file, "train"))
    errors: list[InvalidRecordError] = []
    assert [record.id for record in read_json_lines(file, "train", errors.append)] == ["1", "3"]
    assert len(errors) == 1


def test_a_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no file .*val\.jsonl"):
        list(read_json_lines(folder, "val"))


def test_scores_of_a_model_are_kept_with_their_boxes(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    line = '{"image": "a.png", "text": "a cat", "boxes": [[1, 2, 30, 20]], "scores": %s}\n'
    (tmp_path / "train.jsonl").write_text(line % "[0.75]")
    (record,) = read_json_lines(tmp_path, "train")
    assert record.extra == '{"scores": [0.75]}'
    (tmp_path / "train.jsonl").write_text(line % "[0.75, 1]")
    with pytest.raises(InvalidRecordError, match='2 "scores" and 1 "boxes"'):
        list(read_json_lines(tmp_path, "train"))
