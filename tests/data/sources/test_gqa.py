"""GQA's questions and scene graphs against the released records; parts without graphs, damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdetr.data.sources.gqa import read_gqa
from mdetr.errors import InvalidInputError, InvalidRecordError

FOLDER = Path(__file__).parents[2] / "fixtures" / "sources" / "gqa"


def test_records_are_those_of_the_release() -> None:
    expected = [
        (
            entry["original_id"],
            entry["image_id"],
            entry["caption"],
            sorted((a["bbox"], a["tokens_positive"]) for a in entry["annotations"]),
        )
        for entry in json.loads((FOLDER / "expected.json").read_text())
    ]
    records = list(read_gqa(FOLDER / "raw", "train_balanced"))
    found = [
        (
            record.id,
            record.image_id,
            record.text,
            sorted(
                ([x0, y0, x1 - x0, y1 - y0], [list(span) for span in own])
                for (x0, y0, x1, y1), own in zip(record.boxes, record.spans, strict=True)
            ),
        )
        for record in records
    ]
    assert len(expected) == 20
    assert sorted(found) == sorted(expected)
    assert {record.answer_type for record in records} <= {"obj", "attr", "rel", "global", "cat"}
    assert all(record.answer for record in records)


def test_what_gqas_own_scores_need_is_kept(tmp_path: Path) -> None:
    question = {
        "imageId": "n1",
        "question": "Is it red?",
        "answer": "no",
        "types": {"semantic": "attr", "structural": "verify"},
        "groups": {"global": "color", "local": None},
        "entailed": ["02", "2"],
    }
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "images" / "n1.jpg")
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps({"02": question, "2": question}))
    choices = {"02": {"valid": ["yes", "no"], "plausible": ["no"]}}
    (tmp_path / "testdev_choices.json").write_text(json.dumps(choices))
    first, second = (json.loads(record.extra or "") for record in read_gqa(tmp_path, "testdev_balanced"))
    kept = {"structural": "verify", "group": "color", "entailed": ["02", "2"]}
    assert first == kept | choices["02"] | {"questionId": "02"}
    assert second == kept | {"questionId": "2"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "raw", tmp_path / "gqa"))


def test_a_part_without_scene_graphs_has_sizes_from_its_images(copy: Path) -> None:
    (copy / "images").mkdir()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(copy / "images" / "n1.jpg")
    shards = copy / "testdev_all_questions"
    shards.mkdir()
    question = {"imageId": "n1", "question": "Is it red?", "answer": "no", "types": {"semantic": "attr"}}
    for number in range(2):
        (shards / f"testdev_all_questions_{number}.json").write_text(json.dumps({f"q{number}": question}))
    first, second = read_gqa(copy, "testdev_all")
    assert (first.id, second.id) == ("q0", "q1")
    assert (first.width, first.height, first.boxes) == (40, 30, ())
    assert (first.answer, first.answer_type) == ("no", "attr")


def test_images_that_are_not_there_yet_are_named_where_they_will_be(copy: Path) -> None:
    assert {record.image.split("/")[0] for record in read_gqa(copy, "train_balanced", images=copy)} == {
        "images"
    }


def test_missing_and_damaged_files_are_refused_or_listed(copy: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"the folder has train_balanced_questions\.json"):
        list(read_gqa(copy, "val_balanced"))
    file = copy / "train_balanced_questions.json"
    content = json.loads(file.read_text())
    first = next(iter(content))
    del content[first]["imageId"]
    file.write_text(json.dumps(content))
    with pytest.raises(InvalidRecordError, match=f'question {first}: it has no "imageId"'):
        list(read_gqa(copy, "train_balanced"))
    bad: list[InvalidRecordError] = []
    assert len(list(read_gqa(copy, "train_balanced", bad.append))) == 19
    assert len(bad) == 1
    file.write_text(file.read_text()[:-30])
    with pytest.raises(InvalidInputError, match="may be cut off"):
        list(read_gqa(copy, "train_balanced", bad.append))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, 'its "question" must be a text, got null'),
        ({"question": "\ud83d"}, 'its "question" is not valid Unicode'),
        ({"imageId": ["1"]}, 'its "imageId" must be a text or a whole number, got a list'),
        ({"answer": True}, 'its "answer" must be a text, got true'),
        ({"types": "attr"}, 'its "types": it must be an object with fields'),
        ({"types": {"semantic": ["attr"]}}, 'its "semantic" must be a text, got a list'),
        ({"semantic": "select"}, "it must be an object with fields"),
        ({"annotations": {"question": {"x": "1"}}}, "its place of a word must be a whole number"),
    ],
)
def test_odd_values_of_a_question_are_refused_or_listed(
    copy: Path, change: dict[str, object], message: str
) -> None:
    file = copy / "train_balanced_questions.json"
    content = json.loads(file.read_text())
    first = next(iter(content))
    content[first] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(
        InvalidRecordError, match=f"question {first}: .*{message}|question {first}: {message}"
    ):
        list(read_gqa(copy, "train_balanced"))
    bad: list[InvalidRecordError] = []
    assert len(list(read_gqa(copy, "train_balanced", bad.append))) == 19
    assert len(bad) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, 'its "name" must be a text, got null'),
        ({"x": float("nan")}, "its box is not finite"),
        ({"w": None}, "its box must be a number, got null"),
    ],
)
def test_questions_about_an_image_whose_graph_is_bad_go_with_it(
    copy: Path, change: dict[str, object], message: str
) -> None:
    file = copy / "train_sceneGraphs.json"
    graphs = json.loads(file.read_text())
    questions = json.loads((copy / "train_balanced_questions.json").read_text())
    image = next(iter(questions.values()))["imageId"]
    about = sum(question["imageId"] == image for question in questions.values())
    key = next(iter(graphs[image]["objects"]))
    graphs[image]["objects"][key] |= change
    file.write_text(json.dumps(graphs))
    with pytest.raises(InvalidRecordError, match=f"image {image}: object {key}: {message}"):
        list(read_gqa(copy, "train_balanced"))
    bad: list[InvalidRecordError] = []
    assert len(list(read_gqa(copy, "train_balanced", bad.append))) == 20 - about
    assert len(bad) == 1 + about
