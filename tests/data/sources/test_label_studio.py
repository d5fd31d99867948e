"""Label Studio's JSON export: texts, labels, turned rectangles, uploads, damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdetr.data.sources.label_studio import read_label_studio
from mdetr.errors import InvalidInputError, InvalidRecordError


def _rectangle(name: str, x: float, y: float, label: str | None = None, **value: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"x": x, "y": y, "width": 10, "height": 20, "rotation": 0} | value
    if label is not None:
        content["rectanglelabels"] = [label]
    return {"id": name, "type": "rectanglelabels" if label else "rectangle", "value": content}


def _task(data: dict[str, Any], *result: dict[str, Any]) -> dict[str, Any]:
    old = {"was_cancelled": True, "result": [_rectangle("old", 0, 0, "old")]}
    return {"id": 3, "data": data, "annotations": [{"result": list(result)}, old]}


def _export(folder: Path, *tasks: dict[str, Any]) -> Path:
    Image.fromarray(np.zeros((50, 200, 3), np.uint8)).save(folder / "a.png")
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def test_rectangles_belong_to_the_words_of_their_label_or_of_their_text(tmp_path: Path) -> None:
    words = {"id": "r2", "type": "textarea", "value": {"text": ["Red Mat"]}}
    task = _task(
        {"image": "/data/upload/1/1a2b3c4d-a.png", "caption": "a cat on a red mat"},
        _rectangle("r1", 10, 20, "cat"),
        _rectangle("r2", 50, 50, "thing"),
        words,
    )
    (record,) = read_label_studio(_export(tmp_path, task), "train")
    assert (record.id, record.image, record.width, record.height) == ("3", "a.png", 200, 50)
    assert record.boxes == ((20, 10, 40, 20), (100, 25, 120, 35))
    assert [record.text[start:end] for ((start, end),) in record.spans] == ["cat", "red mat"]


def test_a_task_without_a_text_gives_a_text_for_each_label(tmp_path: Path) -> None:
    task = _task(
        {"image": "/data/local-files/?d=pictures/a.png"},
        _rectangle("r1", 0, 0, "cat"),
        _rectangle("r2", 50, 0, "dog"),
        _rectangle("r3", 20, 0, "cat"),
    )
    records = list(read_label_studio(_export(tmp_path, task), "train"))
    assert [(record.id, record.text, len(record.boxes)) for record in records] == [
        ("3-cat", "cat", 2),
        ("3-dog", "dog", 1),
    ]


def test_a_turned_rectangle_becomes_the_upright_one_around_it(tmp_path: Path) -> None:
    task = _task({"image": "a.png", "text": "cat"}, _rectangle("r1", 50, 0, "cat", rotation=90))
    (record,) = read_label_studio(_export(tmp_path, task), "train")
    assert record.boxes[0] == pytest.approx((90, 0, 100, 20))


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (_task({"image": "b.png", "text": "cat"}), r"its image b\.png is not in"),
        (
            _task({"image": "a.png", "text": "cat"}, _rectangle("r1", 0, 0, "dog")),
            "the phrase 'dog' is not in the text",
        ),
        (
            _task({"image": "a.png", "text": "cat"}, _rectangle("r1", 120, 0, "cat")),
            "rectangle 'r1' is outside",
        ),
        ({"id": 1, "data": {"image": "a.png"}}, "a field is missing"),
    ],
)
def test_a_bad_task_is_named_or_left_out(tmp_path: Path, task: dict[str, Any], told: str) -> None:
    good = _task({"image": "a.png", "text": "cat"}, _rectangle("r1", 0, 0, "cat"))
    file = _export(tmp_path, good, task)
    with pytest.raises(
        InvalidRecordError, match=rf"export\.json, task 1: .*{told}|export\.json, task 1: {told}"
    ):
        list(read_label_studio(file, "train"))
    errors: list[InvalidRecordError] = []
    assert len(list(read_label_studio(tmp_path, "export", errors.append))) == 1
    assert len(errors) == 1


def test_a_missing_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="give a JSON export of Label Studio"):
        list(read_label_studio(tmp_path, "train"))
