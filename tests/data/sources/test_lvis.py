"""LVIS against the recorded choice of subsets and texts."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.sources.lvis import read_lvis
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.rle import decode_masks

FIXTURE = Path(__file__).parents[2] / "fixtures" / "sources" / "lvis"


def _expected() -> dict[str, Any]:
    return json.loads((FIXTURE / "expected.json").read_text())


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1.0])
def test_the_images_of_a_subset_are_those_of_the_release(fraction: float) -> None:
    found = {int(record.image_id) for record in read_lvis(FIXTURE / "raw", "train", fraction=fraction)}
    assert sorted(found) == _expected()[f"subset_{fraction}"]


def test_texts_and_boxes_are_those_of_the_release() -> None:
    expected = _expected()["finetune_lvis10_train"]
    boxes_of: dict[int, list[Any]] = defaultdict(list)
    for annotation in expected["annotations"]:
        boxes_of[annotation["image_id"]].append((annotation["bbox"], annotation["tokens_positive"]))
    wanted = [
        (
            row["file_name"],
            row["height"],
            row["width"],
            row["original_id"],
            row["caption"],
            boxes_of[row["id"]],
        )
        for row in expected["images"]
    ]
    found = []
    for record in read_lvis(FIXTURE / "raw", "train", fraction=0.1):
        boxes = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in record.boxes]
        spans = [[list(span) for span in own] for own in record.spans]
        original = json.loads(record.extra or "")["original_id"]
        both = list(zip(boxes, spans, strict=True))
        found.append((record.image, record.height, record.width, original, record.text, both))
    assert len(found) == 100

    def in_order(rows: list[Any]) -> list[Any]:
        return sorted(rows, key=lambda row: row[3])  # stable: the order within an image stays

    assert in_order(found) == in_order(wanted)


def test_minival_is_what_coco_did_not_train_on_and_v05_is_read_too(tmp_path: Path) -> None:
    content = json.loads((FIXTURE / "raw" / "lvis_v1_train.json").read_text())
    for place, image in enumerate(content["images"]):
        folder = "val2017" if place % 4 == 0 else "train2017"
        image["coco_url"] = f"x/{folder}/{image['id']:012d}.jpg"
    (tmp_path / "lvis_v1_val.json").write_text(json.dumps(content))
    found = {record.image for record in read_lvis(tmp_path, "minival")}
    assert len(found) == 50
    assert all(name.startswith("val2017/") for name in found)

    for image in content["images"]:
        image["file_name"] = f"COCO_val2014_{image['id']:012d}.jpg"
        del image["coco_url"]
    (tmp_path / "lvis_v0.5_train.json").write_text(json.dumps(content))
    assert next(iter(read_lvis(tmp_path, "train"))).image == "val2017/000000000010.jpg"


def test_what_the_federated_rule_needs_is_kept() -> None:
    records = {record.id: record for record in read_lvis(FIXTURE / "raw", "train")}
    partly = json.loads(records["36-2"].extra or "")
    assert len(partly.pop("areas")) == 2
    assert partly == {
        "original_id": 36,
        "category_id": 2,
        "name": "baseball_bat",
        "frequency": "c",
        "exhaustive": False,
    }
    assert set(records["36-2"].category_ids or ()) == {2}
    assert records["36-7"].boxes == ()  # known to be absent


def test_masks_may_be_run_lengths_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 2, 30], "area": 60}
    content = {
        "images": [
            {"id": 1, "width": 40, "height": 30, "coco_url": "http://x/val2017/1.jpg", "neg_category_ids": []}
        ],
        "categories": [{"id": 3, "name": "traffic_light"}],
        "annotations": [
            annotation | {"segmentation": {"size": [30, 40], "counts": [0, 60, 1140]}},
            annotation | {"id": 2, "bbox": [50, 0, 2, 30]},
        ],
    }
    (tmp_path / "l.json").write_text(json.dumps(content))
    left_out: Counter[str] = Counter()
    (record,) = read_lvis(tmp_path / "l.json", "val", left_out=left_out)
    assert decode_masks(record.masks or (), 30, 40)[0, :, :2].sum() == 60
    assert record.text == "traffic light"
    assert left_out == {"boxes without area in their image": 1}


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="neither"):
        list(read_lvis(tmp_path, "train"))
    file = tmp_path / "lvis_v1_train.json"
    shutil.copy(FIXTURE / "raw" / "lvis_v1_train.json", file)
    content = json.loads(file.read_text())
    with pytest.raises(InvalidInputError, match="do not cover all classes"):
        list(read_lvis(file, "train", fraction=0.01))
    content["annotations"][5]["image_id"] = -1
    file.write_text(json.dumps(content))
    with pytest.raises(InvalidRecordError, match="annotation 5: it names an unknown image"):
        list(read_lvis(file, "train"))
    content["annotations"][5]["image_id"] = 10
    del content["images"][3]["height"]
    file.write_text(json.dumps(content))
    with pytest.raises(InvalidRecordError, match=r'image 3: it has no "height"'):
        list(read_lvis(file, "train"))
    problems: list[InvalidRecordError] = []
    kept = {record.image_id for record in read_lvis(file, "train", on_bad=problems.append)}
    assert len(kept) == 199
    assert len(problems) == 1
