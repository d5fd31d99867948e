"""Tests of the reader of CLEVR's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.record import Phrase
from mdetr.data.sources.clevr import read_clevr
from mdetr.errors import InvalidInputError, InvalidRecordError


def _edit(path: Path, name: str, entry: int, **fields: Any) -> None:
    content = json.loads(path.read_text())
    content[name][entry].update(fields)
    path.write_text(json.dumps(content))


def test_a_caption_has_a_box_for_each_object_that_it_mentions(clevr_folder: Path) -> None:
    caption = next(iter(read_clevr(clevr_folder, "val")))
    assert caption.text == "a red cube and two balls"
    assert (caption.width, caption.height, caption.image_id) == (96, 64, "0")
    assert caption.image == "images/val/CLEVR_val_000000.png"
    assert caption.boxes == ((10, 10, 30, 30), (50, 20, 70, 40), (72, 44, 90, 60))
    assert caption.spans == (((0, 10),), ((15, 24),), ((15, 24),))
    assert caption.phrases == (Phrase(((0, 10),), (0,)), Phrase(((15, 24),), (1, 2)))
    assert caption.is_referred is None
    assert json.loads(caption.extra or "") == {"kind": "caption", "image_index": 0, "objects": [0, 1, 2]}


def test_a_referring_expression_denotes_its_target_only(clevr_folder: Path) -> None:
    expression = next(record for record in read_clevr(clevr_folder, "val") if record.id == "refexp-0")
    assert expression.boxes == ((50, 20, 70, 40), (72, 44, 90, 60))
    assert expression.is_referred == (True, False)
    assert [expression.text[start:end] for ((start, end),) in expression.spans] == [
        "the blue ball",
        "the green ball",
    ]


def test_texts_of_one_image_follow_each_other(clevr_folder: Path) -> None:
    ids = [record.id for record in read_clevr(clevr_folder, "val")]
    assert ids == ["caption-0", "caption-1", "refexp-0", "caption-2", "refexp-1"]


def test_an_object_named_twice_has_one_box_with_both_spans(clevr_folder: Path) -> None:
    phrases = [{"spans": [[4, 9]], "objects": [1, 2]}, {"spans": [[0, 3]], "objects": [2]}]
    _edit(clevr_folder / "captions" / "CLEVR_val_captions.json", "captions", 2, phrases=phrases)
    caption = next(record for record in read_clevr(clevr_folder, "val") if record.id == "caption-2")
    assert caption.spans == (((4, 9),), ((0, 3), (4, 9)))


def test_captions_alone_are_enough(clevr_folder: Path) -> None:
    (clevr_folder / "refexps" / "CLEVR_val_refexps.json").unlink()
    assert len(list(read_clevr(clevr_folder, "val"))) == 3


def test_neither_captions_nor_expressions_is_said_plainly(clevr_folder: Path) -> None:
    (clevr_folder / "refexps" / "CLEVR_val_refexps.json").unlink()
    (clevr_folder / "captions" / "CLEVR_val_captions.json").unlink()
    with pytest.raises(InvalidInputError, match="has no texts of the split 'val'"):
        list(read_clevr(clevr_folder, "val"))


def test_a_split_that_is_not_there_lists_those_that_are(clevr_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"the splits found in .* are: val"):
        list(read_clevr(clevr_folder, "test"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no folder .*nowhere"):
        list(read_clevr(tmp_path / "nowhere", "val"))


def test_scenes_without_boxes_are_refused(clevr_folder: Path) -> None:
    _edit(clevr_folder / "scenes" / "CLEVR_val_scenes.json", "scenes", 1, objects=[{"color": "red"}])
    with pytest.raises(InvalidInputError, match=r"CLEVR_val_scenes\.json, entry 1: .* \"bbox\""):
        list(read_clevr(clevr_folder, "val"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"phrases": [{"spans": [[0, 99]], "objects": [0]}]}, r"span \(0, 99\) is outside its text"),
        ({"phrases": [{"spans": [[0, 3]], "objects": [7]}]}, "object 7 is not among the 3 of its scene"),
        ({"phrases": [{"spans": [[0, 3]]}]}, "a field is missing"),
        ({"text": ""}, "text is empty"),
        (
            {"image_filename": "gone.png"},
            r"its image is gone\.png, but that of its scene is CLEVR_val_000000\.png",
        ),
        ({"image_index": 9}, "no scene with image_index 9"),
        ({"image_index": None}, "no scene with image_index"),
    ],
)
def test_a_bad_entry_is_named_with_its_file_and_rule_or_left_out(
    clevr_folder: Path, fields: dict[str, Any], told: str
) -> None:
    _edit(clevr_folder / "captions" / "CLEVR_val_captions.json", "captions", 1, **fields)
    with pytest.raises(InvalidRecordError, match=rf"CLEVR_val_captions\.json, entry 1: .*{told}"):
        list(read_clevr(clevr_folder, "val"))
    errors: list[InvalidRecordError] = []
    assert len(list(read_clevr(clevr_folder, "val", errors.append))) == 4
    assert len(errors) == 1
