"""PhraseCut: boxes and masks of the instances of a phrase; damaged entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.sources.phrasecut import read_phrasecut
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks


def _task(**changes: Any) -> dict[str, Any]:
    return {
        "task_id": "5__1",
        "image_id": 5,
        "ann_ids": [1, 2],
        "instance_boxes": [[2, 3, 10, 6], [30, 30, 20, 20]],
        "Polygons": [
            [[[2, 3], [12, 3], [12, 9], [2, 9]]],
            [[[30, 30], [40, 30], [40, 40]], [[31, 31], [32, 32]]],
        ],
        "phrase": "two zebras",
        "phrase_structure": {
            "name": "zebra",
            "attributes": ["two"],
            "relation_descriptions": [],
            "type": "attribute",
        },
    } | changes


def _write(folder: Path, *tasks: dict[str, Any]) -> Path:
    (folder / "refer_miniv.json").write_text(json.dumps(tasks))
    images = [{"image_id": 5, "width": 45, "height": 40, "split": "miniv"}]
    (folder / "image_data_split3000.json").write_text(json.dumps(images))
    return folder


def test_a_phrase_has_a_box_and_a_mask_for_each_instance(tmp_path: Path) -> None:
    (record,) = read_phrasecut(_write(tmp_path, _task()), "miniv")
    assert (record.id, record.image, record.text) == ("5__1", "images/5.jpg", "two zebras")
    assert record.boxes == ((2, 3, 12, 9), (30, 30, 45, 40))  # cut at the border
    assert record.spans == (((0, 10),), ((0, 10),))
    masks = decode_masks(record.masks or (), 40, 45)
    assert masks[0].sum() == 60
    assert masks[0, 3:9, 2:12].all()
    assert 0 < masks[1].sum() < 100
    assert json.loads(record.extra or "")["phrase_structure"]["name"] == "zebra"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_id": 6}, "image 6 is not in the list of images"),
        ({"phrase": ["two"]}, 'its "phrase" must be a text, got a list'),
        ({"instance_boxes": [[2, 3, float("nan"), 6]] * 2}, "instance 0: its box is not finite"),
        ({"Polygons": [[[[float("nan"), 3], [5, 0], [5, 5]]]] * 2}, "instance 0: a polygon .* is not finite"),
        ({"instance_boxes": [[2, 3, 10, 6]]}, "it has not as many polygons as boxes"),
        (
            {"Polygons": [[], [[[0, 0], [5, 0], [5, 5]]]]},
            "instance 0: its mask has no polygon of three points",
        ),
        ({"phrase": None, "instance_boxes": None}, 'its "phrase" must be a text, got null'),
    ],
)
def test_a_bad_task_is_named_or_left_out(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    folder = _write(tmp_path, _task(), _task(task_id="5__2", **changes))
    with pytest.raises(InvalidRecordError, match=rf"refer_miniv\.json, entry 1: {told}"):
        list(read_phrasecut(folder, "miniv"))
    errors: list[InvalidRecordError] = []
    assert [record.id for record in read_phrasecut(folder, "miniv", errors.append)] == ["5__1"]
    assert len(errors) == 1


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no file .*image_data_split3000\.json"):
        list(read_phrasecut(tmp_path, "val"))
    with pytest.raises(InvalidInputError, match=r"There is no file .*refer_val\.json"):
        list(read_phrasecut(_write(tmp_path, _task()), "val"))
