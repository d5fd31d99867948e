"""Label Studio's JSON export: texts, labels, turned rectangles, uploads, damage."""

from __future__ import annotations

import json
from collections import Counter
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
        _rectangle("r4", 20, 0, "traffic_light"),
    )
    records = list(read_label_studio(_export(tmp_path, task), "train"))
    assert [(record.id, record.text, len(record.boxes)) for record in records] == [
        ("3-cat", "cat", 2),
        ("3-dog", "dog", 1),
        ("3-traffic_light", "traffic light", 1),  # as detection asks for it
    ]
    assert records[2].spans == (((0, 13),),)


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
            "region 'r1': it is outside its image, or empty",
        ),
        (
            {"id": 1, "data": {"image": "a.png"}},
            'a field is missing: "annotations"; export the reviewed project as JSON',
        ),
        (
            _task({"image": "a.png", "text": "cat"}, _rectangle("r1", 0, 0)),
            "one of its regions has neither a label nor a text",
        ),
        (
            _task({"image": "a.png", "text": "cat"}, _rectangle("r1", 0, 0, "cat", width="wide")),
            "region 'r1': its width must be a number, got the text 'wide'",
        ),
        (
            _task({"note": "a.txt", "text": "cat"}, _rectangle("r1", 0, 0, "cat")),
            r"none of the fields of its data \(note, text\) names an image",
        ),
        (
            _task({"image": "a.png", "text": None, "caption": 7}, _rectangle("r1", 0, 0, "cat")),
            'its "caption" must be a text, got 7',
        ),
        ("a task", "it must be an object with fields"),
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


def _relation(start: str, end: str) -> dict[str, Any]:
    return {"from_id": start, "to_id": end, "type": "relation", "direction": "right"}


def test_relations_and_choices_are_passed_over(tmp_path: Path) -> None:
    choice = {"id": "c", "type": "choices", "from_name": "quality", "value": {"choices": ["good"]}}
    task = _task(
        {"image": "a.png", "text": "a cat"}, _rectangle("r1", 10, 20, "cat"), _relation("r1", "r1"), choice
    )
    (record,) = read_label_studio(_export(tmp_path, task), "train")
    assert record.boxes == ((20, 10, 40, 20),)


def _polygon(name: str, label: str | None, *points: tuple[float, float]) -> dict[str, Any]:
    labels = {} if label is None else {"polygonlabels": [label]}
    return {"id": name, "type": "polygonlabels", "value": {"points": [list(p) for p in points]} | labels}


def test_a_polygon_gives_the_box_around_it(tmp_path: Path) -> None:
    task = _task({"image": "a.png", "text": "a cat"}, _polygon("p", "cat", (10, 20), (30, 60), (5, 40)))
    (record,) = read_label_studio(_export(tmp_path, task), "train")  # the image has 200 x 50 pixels
    assert record.boxes == ((10, 10, 60, 30),)
    assert record.spans == (((2, 5),),)


def test_labels_may_stand_in_a_result_of_their_own(tmp_path: Path) -> None:
    labels = {"id": "r1", "type": "labels", "value": {"x": 0, "y": 0, "labels": ["cat"]}}
    task = _task({"image": "a.png", "text": "a cat"}, _rectangle("r1", 10, 20), labels)
    (record,) = read_label_studio(_export(tmp_path, task), "train")
    assert record.spans == (((2, 5),),)


BRUSH = {"id": "b", "type": "brushlabels", "value": {"format": "rle", "rle": [1], "brushlabels": ["cat"]}}


def test_tasks_without_boxes_are_left_out_and_counted(tmp_path: Path) -> None:
    data = {"image": "a.png", "text": "a cat"}
    skipped = {
        "id": 1,
        "data": data,
        "annotations": [{"was_cancelled": True, "result": [_rectangle("r", 0, 0, "cat")]}],
    }
    unlabeled = {"id": 2, "data": data, "annotations": []}
    empty, brushed = _task(data), _task(data, BRUSH)
    mixed = _task(data, BRUSH, _rectangle("r", 0, 0, "cat"))
    left_out: Counter[str] = Counter()
    file = _export(tmp_path, skipped, unlabeled, empty, brushed, mixed)
    assert len(list(read_label_studio(file, "train", left_out=left_out))) == 1
    assert left_out == {
        "tasks without an annotation": 2,
        "tasks without a rectangle": 1,
        "tasks with other shapes only": 1,
        "shapes that are neither rectangles nor polygons": 1,
    }


@pytest.mark.parametrize(
    "address",
    [
        "a.png",
        "/data/upload/1/1a2b3c4d-a.png",
        "/data/local-files/?d=pictures/a.png",
        "/data/local-files/?d=pictures%2Fa.png&v=1",
        "/data/local-files/?d=pictures%5Ca.png",
        "pictures\\a.png",
        "C:\\data\\pictures\\a.png",
        "s3://bucket/pictures/a.png",
        "gs://bucket/a.png",
        "https://host.example/x/a.png?X-Amz-Signature=abc&X-Amz-Expires=1",
    ],
)
@pytest.mark.parametrize("key", ["image", "image_url", "$undefined$"])
def test_the_path_of_any_address_under_any_key_names_the_image(
    tmp_path: Path, address: str, key: str
) -> None:
    task = _task({"meta": "a cat", key: address, "text": "a cat"}, _rectangle("r1", 10, 20, "cat"))
    (record,) = read_label_studio(_export(tmp_path, task), "train")
    assert (record.image, record.text) == ("a.png", "a cat")


def test_names_with_spaces_percent_signs_and_dashes_are_found(tmp_path: Path) -> None:
    export = _export(tmp_path)
    for name in ("my cat.png", "100%25.png", "my-cat.png", "cat.png"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    addresses = ["/data/upload/1/1a2b3c4d-my%20cat.png", "100%25.png", "/data/upload/1/my-cat.png"]
    tasks = [_task({"image": name, "text": "cat"}, _rectangle("r", 0, 0, "cat")) for name in addresses]
    export.write_text(json.dumps([task | {"id": number} for number, task in enumerate(tasks)]))
    found = [record.image for record in read_label_studio(export, "train")]
    assert found == ["my cat.png", "100%25.png", "my-cat.png"]


def test_images_are_taken_from_the_folder_that_is_named_by_as_much_of_their_path_as_there_is(
    tmp_path: Path,
) -> None:
    address = "/data/local-files/?d=project/day1/a.png"
    export = _export(tmp_path, _task({"image": address, "text": "a cat"}, _rectangle("r1", 10, 20, "cat")))
    pictures = tmp_path / "pictures"
    for folder in (pictures, pictures / "day1"):
        folder.mkdir()
        Image.new("RGB", (60, 40)).save(folder / "a.png")
    (record,) = read_label_studio(export, "train", images=pictures)
    assert (record.image, record.width, record.height) == ("day1/a.png", 60, 40)


def _text_area(name: str, *texts: str) -> dict[str, Any]:
    return {"id": f"t-{name}", "type": "textarea", "from_name": name, "value": {"text": list(texts)}}


@pytest.mark.parametrize(
    ("data", "areas", "expected"),
    [
        ({}, [_text_area("caption", "a red cat")], "a red cat"),
        ({}, [_text_area("description", "a red cat")], "a red cat"),
        ({"caption": "a cat"}, [_text_area("caption", "a red cat")], "a red cat"),
        ({"caption": "a cat"}, [_text_area("comment", "blurred")], "a cat"),
        ({"caption": ""}, [_text_area("caption", "a red", "cat")], "a red cat"),
    ],
)
def test_the_text_that_an_annotator_wrote_for_the_image_is_its_text(
    tmp_path: Path, data: dict[str, Any], areas: list[dict[str, Any]], expected: str
) -> None:
    task = _task({"image": "a.png"} | data, _rectangle("r1", 10, 20, "cat"), *areas)
    (record,) = read_label_studio(_export(tmp_path, task), "train")
    assert (record.id, record.text) == ("3", expected)


def test_a_photo_with_an_exif_turn_has_its_upright_size(tmp_path: Path) -> None:
    export = _export(
        tmp_path, _task({"image": "photo.jpg", "text": "a cat"}, _rectangle("r1", 10, 20, "cat"))
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (240, 160)).save(tmp_path / "photo.jpg", exif=exif)
    (record,) = read_label_studio(export, "train")
    assert (record.width, record.height) == (160, 240)
    assert record.boxes == ((16, 48, 32, 96),)


def test_an_export_of_windows_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    export = _export(tmp_path, _task({"image": "a.png", "text": "a cat"}, _rectangle("r1", 10, 20, "cat")))
    export.write_bytes(b"\xef\xbb\xbf" + export.read_bytes())
    assert len(list(read_label_studio(export, "train"))) == 1


def test_a_missing_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="give a JSON export of Label Studio"):
        list(read_label_studio(tmp_path, "train"))
