"""CLEVR-Ref+: boxes and masks of the objects in an expression's program, and which of them it denotes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdetr.data.sources.clevr_ref import read_clevr_ref
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks

BOXES = {"1": [10, 20, 30, 40], "2": [100, 50, 20, 20], "3": [200, 60, 10, 10]}


def _runs(box: list[int]) -> str:
    mask = np.zeros((320, 480), int)
    mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
    changes = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(), [-1]])))
    return ",".join(map(str, np.diff(np.concatenate([[0], changes]))))


def _thing(color: str, shape: str) -> dict[str, Any]:
    return {"color": color, "shape": shape, "material": "metal", "size": "large"}


SCENE = {
    "image_index": 4,
    "objects": [_thing("red", "cube"), _thing("red", "sphere"), _thing("blue", "cube")],
    "relationships": {"left": [[], [0], [0, 1]]},
    "obj_bbox": BOXES,
    "obj_mask": {key: _runs(box) for key, box in BOXES.items()},
}


def _step(kind: str, inputs: list[int], *values: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "inputs": inputs, "side_inputs": list(values)} | more


PROGRAM = [
    _step("scene", []),
    _step("filter_color", [0], "blue"),
    _step("filter_shape", [1], "cube"),
    _step("unique", [2]),
    _step("relate", [3], "left"),
    _step("filter_color", [4], "red"),
]
EXPRESSION = {
    "image_index": 4,
    "image_filename": "CLEVR_val_000004.png",
    "refexp_index": 12,
    "refexp": "Any other red things that are left of the blue block",
    "program": PROGRAM,
}


def _write(folder: Path, *expressions: dict[str, Any]) -> Path:
    for kind, entries in (("scenes", [SCENE]), ("refexps", list(expressions))):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"clevr_ref+_val_{kind}.json").write_text(json.dumps({kind: entries}))
    return folder


def test_what_is_denoted_and_what_else_is_named(tmp_path: Path) -> None:
    (record,) = read_clevr_ref(_write(tmp_path, EXPRESSION), "val")
    assert (record.id, record.image, record.image_id) == ("12", "images/val/CLEVR_val_000004.png", "4")
    assert record.boxes == ((10, 20, 40, 60), (100, 50, 120, 70), (200, 60, 210, 70))
    assert record.is_referred == (True, True, False)
    assert [record.text[start:end] for ((start, end),) in record.spans] == [
        "red things",
        "red things",
        "blue block",
    ]
    masks = decode_masks(record.masks or (), 320, 480)
    assert masks.sum((1, 2)).tolist() == [1200, 400, 100]
    assert masks[0, 20:60, 10:40].all()


def test_outputs_that_the_file_gives_are_believed(tmp_path: Path) -> None:
    ordinal = _step("filter_ordinal", [5], "the first one of the", "from left", _output=[1])
    expression = {**EXPRESSION, "program": [*PROGRAM, ordinal]}
    (record,) = read_clevr_ref(_write(tmp_path, expression), "val")
    assert record.is_referred == (True, False)
    assert record.boxes[0] == (100, 50, 120, 70)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_index": 5}, "has no scene of its image"),
        (
            {"program": [_step("scene", []), _step("unique", [0])]},
            r"step 1 of its program \(unique\) does not fit",
        ),
        ({"program": [_step("scene", []), _step("filter_color", [-1], "red")]}, "step 1 .*input is negative"),
        ({"program": [_step("dance", [])]}, r"step 0 of its program \(dance\)"),
        ({"refexp": None, "program": None}, 'its "refexp" must be a text, got null'),
    ],
)
def test_a_bad_expression_is_named_or_left_out(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    folder = _write(tmp_path, EXPRESSION, {**EXPRESSION, "refexp_index": 13, **changes})
    with pytest.raises(InvalidRecordError, match=rf"refexps\.json, entry 1: .*{told}|entry 1: {told}"):
        list(read_clevr_ref(folder, "val"))
    errors: list[InvalidRecordError] = []
    assert len(list(read_clevr_ref(folder, "val", errors.append))) == 1
    assert len(errors) == 1


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no file .*clevr_ref\+_train_scenes\.json"):
        list(read_clevr_ref(tmp_path, "train"))
