"""The released JSON files: every field, in little memory, and damaged ones refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.record import Phrase
from mdetr.data.sources.official import read_official
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks

SOURCES = Path(__file__).parents[2] / "fixtures" / "sources"


def _file(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Path:
    path = folder / "release.json"
    path.write_text(json.dumps({"info": [], "annotations": annotations, "images": images}))
    return path


def _image(**changes: Any) -> dict[str, Any]:
    plain = {"id": 7, "file_name": "a.jpg", "width": 40, "height": "30", "caption": "a cat on a mat"}
    return plain | {"tokens_negative": [[0, 14]], "dataset_name": "mixed"} | changes


def _annotation(**changes: Any) -> dict[str, Any]:
    plain = {"id": 1, "image_id": 7, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0, "category_id": 1}
    return plain | {"tokens_positive": [[0, 5]]} | changes


def test_every_entry_of_a_flickr_file_becomes_a_record(tmp_path: Path) -> None:
    release = json.loads((SOURCES / "flickr30k" / "expected.json").read_text())["separate"]
    (tmp_path / "final_flickr_separateGT_test.json").write_text(json.dumps(release))
    records = list(read_official(tmp_path, "final_flickr_separateGT_test"))
    assert [record.text for record in records] == [image["caption"] for image in release["images"]]
    assert sum(len(record.boxes) for record in records) == len(release["annotations"])
    for record, image in zip(records, release["images"], strict=True):
        assert [[list(span) for span in phrase.spans] for phrase in record.phrases] == image[
            "tokens_positive_eval"
        ]
        assert all(phrase.box_indices for phrase in record.phrases)
        assert json.loads(record.extra)["sentence_id"] == image["sentence_id"]


def test_expressions_denote_their_box(tmp_path: Path) -> None:
    release = json.loads((SOURCES / "refcoco" / "expected.json").read_text())["val"]
    (tmp_path / "finetune_refcoco_val.json").write_text(json.dumps(release))
    records = list(read_official(tmp_path / "finetune_refcoco_val.json", "val"))
    assert len(records) == 7
    assert all(record.source == "refcoco" and record.is_referred == (True,) for record in records)


def test_boxes_are_cut_at_the_border_and_crowds_and_empty_ones_go(tmp_path: Path) -> None:
    annotations = [
        _annotation(bbox=[-5, 20, 60, 60], tokens_positive=[[0, 5], [9, 14]]),
        _annotation(bbox=[1, 1, 5, 5], iscrowd=1),
        _annotation(bbox=[1, 1, 0, 5]),
        _annotation(bbox=[50, 1, 5, 5]),
    ]
    (record,) = read_official(
        _file(tmp_path, [_image(tokens_positive_eval=[[[9, 14]], [[6, 8]]])], annotations), "x"
    )
    assert record.boxes == ((0, 20, 40, 30),)
    assert record.spans == (((0, 5), (9, 14)),)
    assert record.phrases == (Phrase(((9, 14),), (0,)), Phrase(((6, 8),), ()))


@pytest.mark.parametrize(
    ("fields", "answer_type"),
    [
        ({"answer": "red", "question_type": "attr", "questionId": "q1", "dataset_name": "gqa"}, "attr"),
        ({"answer": "yes", "dataset_name": "clevr"}, "binary"),
        ({"answer": 3, "dataset_name": "clevr"}, "reg"),
        ({"answer": "metal", "dataset_name": "clevr"}, "attr"),
    ],
)
def test_questions_keep_their_answers(tmp_path: Path, fields: dict[str, Any], answer_type: str) -> None:
    (record,) = read_official(_file(tmp_path, [_image(**fields)], []), "train")
    assert (record.answer, record.answer_type) == (str(fields["answer"]), answer_type)


def test_masks_referred_boxes_and_categories_are_kept(tmp_path: Path) -> None:
    square = [[2, 2, 8, 2, 8, 6, 2, 6]]
    annotations = [
        _annotation(segmentation=square, isfinal=1, category_id=3),
        _annotation(segmentation=square, isfinal=0, category_id=5),
    ]
    file = _file(tmp_path, [_image(dataset_name="lvis", task_id="t_1")], annotations)
    (record,) = read_official(file, "val")
    assert record.is_referred == (True, False)
    assert record.category_ids == (3, 5)
    assert decode_masks(record.masks, 30, 40)[0].sum() == 6 * 4
    assert json.loads(record.extra)["task_id"] == "t_1"


def test_masks_may_be_run_lengths_and_ids_texts(tmp_path: Path) -> None:
    runs = {"size": [30, 40], "counts": [0, 60, 1140]}
    annotation = _annotation(segmentation=runs, image_id="a1", bbox=[0, 0, 2, 30])
    (record,) = read_official(_file(tmp_path, [_image(id="a1")], [annotation]), "x")
    assert record.id == "a1"
    assert decode_masks(record.masks or (), 30, 40)[0, :, :2].sum() == 60


def test_what_is_left_out_on_purpose_is_counted(tmp_path: Path) -> None:
    annotations = [_annotation(), _annotation(iscrowd="1"), _annotation(bbox=[1, 1, 0, 5])]
    left_out: Counter[str] = Counter()
    (record,) = read_official(_file(tmp_path, [_image()], annotations), "x", left_out=left_out)
    assert len(record.boxes) == 1
    assert left_out == {"boxes of crowds": 1, "boxes without area in their image": 1}


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([_image(caption=None)], [], 'image 0: its "caption" must be a text, got null'),
        ([_image(caption=["a"])], [], 'image 0: its "caption" must be a text, got a list'),
        ([_image(answer=True)], [], 'image 0: its "answer" must be a text, got true'),
        ([_image(width=0)], [], "image 0: its width and height must be positive"),
        (
            [_image()],
            [_annotation(bbox=[float("nan"), 1, 2, 3])],
            "image 0: annotation 1: its box is not finite",
        ),
        ([_image()], [_annotation(segmentation=[[]])], "image 0: annotation 1: its mask has no polygon"),
        ([_image()], [_annotation(tokens_positive=[[0, 15]])], "image 0: record .* outside its text"),
        ([_image(), _image()], [], "image 1: the id 7 is a duplicate"),
        ([{"id": 1}], [], 'image 0: it has no "width"'),
        ([_image(caption=" ")], [], "image 0: record .* its text is empty"),
    ],
)
def test_broken_entries_are_named_or_listed(
    tmp_path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], message: str
) -> None:
    file = _file(tmp_path, images, annotations)
    with pytest.raises(InvalidRecordError, match=rf"release\.json, {message}"):
        list(read_official(file, "x"))
    bad: list[InvalidRecordError] = []
    assert len(list(read_official(file, "x", bad.append))) == len(images) - 1
    assert len(bad) == 1


def test_cut_off_and_missing_files_are_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, [_image()], [_annotation()])
    with pytest.raises(InvalidInputError, match="the JSON files of that folder are: release"):
        list(read_official(tmp_path, "finetune_refcoco_val"))
    file.write_text(file.read_text()[:-40])
    with pytest.raises(InvalidInputError, match="may be cut off"):
        list(read_official(file, "x"))
    file.write_text(json.dumps({"images": [], "annotations": [{"id": 1}]}))
    with pytest.raises(InvalidRecordError, match=r'annotation 0: it has no "image_id"'):
        list(read_official(file, "x"))
