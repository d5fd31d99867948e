"""Tests of the reader of CLEVR's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.record import Phrase
from mdetr.data.sources.clevr import read_clevr, read_clevr_humans
from mdetr.data.sources.readers import reader_of
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


@pytest.mark.parametrize(("source", "kind"), [("clevr-captions", "caption"), ("clevr-expressions", "refexp")])
def test_one_kind_of_texts_is_read_by_its_name(clevr_folder: Path, source: str, kind: str) -> None:
    everything = [record for record in read_clevr(clevr_folder, "val") if record.id.startswith(kind)]
    assert everything
    assert list(reader_of(source)(clevr_folder, "val", None)) == everything


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
    with pytest.raises(InvalidRecordError, match=r"CLEVR_val_scenes\.json, entry 1: .* \"bbox\""):
        list(read_clevr(clevr_folder, "val"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"phrases": [{"spans": [[0, 99]], "objects": [0]}]}, r"span \(0, 99\) is outside its text"),
        ({"phrases": [{"spans": [[0, 3]], "objects": [7]}]}, "object 7 is not among the 3 of its scene"),
        ({"phrases": [{"spans": [[0, 3]]}]}, 'it has no "objects"'),
        ({"text": ""}, "text is empty"),
        (
            {"image_filename": "gone.png"},
            r"its image is gone\.png, but that of its scene is CLEVR_val_000000\.png",
        ),
        ({"image_index": 9}, "no scene with image_index 9"),
        ({"image_index": None}, "must be a whole number, got null"),
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


def _ask(folder: Path, *questions: dict[str, Any], name: str = "questions/CLEVR_val_questions.json") -> Path:
    common = {"image_index": 0, "image_filename": "CLEVR_val_000000.png"}
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    entries = [{**common, "question_index": 5 + n, **question} for n, question in enumerate(questions)]
    path.write_text(json.dumps({"questions": entries}))
    scenes = folder / "scenes" / "CLEVR_val_scenes.json"
    content = json.loads(scenes.read_text())
    for scene in content["scenes"]:
        for thing, color in zip(scene["objects"], ("red", "green", "blue"), strict=True):
            thing.update(color=color, shape="sphere", size="large", material="metal")
        scene["relationships"] = {"left": [[], [0], [0, 1]]}
    scenes.write_text(json.dumps(content))
    return folder


BLUE = [
    {"function": "scene", "inputs": [], "value_inputs": []},
    {"function": "filter_color", "inputs": [0], "value_inputs": ["blue"]},
    {"function": "unique", "inputs": [1], "value_inputs": []},
]
LEFT = [*BLUE, {"function": "relate", "inputs": [2], "value_inputs": ["left"]}]
COUNT = {"function": "count", "inputs": [3], "value_inputs": []}
SIZE = {"function": "query_size", "inputs": [2], "value_inputs": []}


def test_a_question_has_its_answer_and_the_boxes_that_its_program_speaks_of(clevr_folder: Path) -> None:
    question = {
        "question": "What number of things are left of the blue thing?",
        "answer": "2",
        "program": [*LEFT, COUNT],
    }
    folder = _ask(clevr_folder, question | {"question_family_index": 7})
    (record,) = [r for r in read_clevr(folder, "val") if r.id.startswith("question")]
    assert (record.id, record.answer, record.answer_type) == ("question-5", "2", "reg")
    assert record.boxes == ((10, 10, 30, 30), (50, 20, 70, 40), (72, 44, 90, 60))
    words = [[record.text[start:end] for start, end in spans] for spans in record.spans]
    assert words == [["things"], ["things"], ["blue thing"]]
    extra = json.loads(record.extra or "")
    assert (extra["question_type"], extra["question_family_index"]) == ("count", 7)


def test_medium_questions_name_each_object_once(clevr_folder: Path) -> None:
    once = {"question": "What size is the blue thing?", "answer": "large", "program": [*BLUE, SIZE]}
    twice = {
        "question": "Are there more blue things than things?",
        "answer": "no",
        "program": [
            *BLUE[:2],
            {"function": "count", "inputs": [1], "value_inputs": []},
            {"function": "scene", "inputs": [], "value_inputs": []},
            {"function": "count", "inputs": [3], "value_inputs": []},
            {"function": "greater_than", "inputs": [2, 4], "value_inputs": []},
        ],
    }
    folder = _ask(clevr_folder, once, twice, {"question": "Why?", "answer": "yes"})
    assert [record.id for record in read_clevr(folder, "val", medium=True)] == ["question-5"]
    (record, *_) = read_clevr(folder, "val", medium=True)
    assert (record.answer_type, json.loads(record.extra or "")["question_type"]) == (
        "attr",
        "query attribute",
    )


def test_questions_of_a_test_split_have_no_answers_and_no_boxes(clevr_folder: Path) -> None:
    folder = _ask(clevr_folder, {"question": "What size is the blue thing?"})
    (folder / "scenes" / "CLEVR_val_scenes.json").unlink()
    for kind in ("captions", "refexps"):
        (folder / kind / f"CLEVR_val_{kind}.json").unlink()
    (record,) = read_clevr(folder, "val")
    assert (record.answer, record.answer_type, record.boxes, record.width) == (None, None, (), 96)


def test_a_program_that_does_not_fit_its_scene_is_named(clevr_folder: Path) -> None:
    program = [{"function": "scene", "inputs": [], "value_inputs": []}, {"function": "unique", "inputs": [0]}]
    folder = _ask(clevr_folder, {"question": "What?", "answer": "no", "program": program})
    with pytest.raises(
        InvalidRecordError, match=r"CLEVR_val_questions\.json, entry 0: step 1 of its program"
    ):
        list(read_clevr(folder, "val"))


def test_questions_of_people_have_answers_only(clevr_folder: Path) -> None:
    folder = _ask(clevr_folder, {"question": "Could it roll?", "answer": "yes"}, name="CLEVR-Humans-val.json")
    (record,) = read_clevr_humans(folder, "val")
    assert (record.text, record.answer, record.answer_type, record.boxes) == (
        "Could it roll?",
        "yes",
        "binary",
        (),
    )
    assert record.image == "images/val/CLEVR_val_000000.png"
    with pytest.raises(InvalidInputError, match=r"There is no file .*CLEVR-Humans-test\.json"):
        list(read_clevr_humans(folder, "test"))
