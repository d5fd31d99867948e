"""Every format is read back by the importer of its kind, with the boxes that were written."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from label_studio_sdk.label_interface import LabelInterface

from mdetr.data.record import Record
from mdetr.data.sources.coco import read_coco
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.sources.label_studio import read_label_studio
from mdetr.data.sources.pascal_voc import read_voc
from mdetr.data.sources.yolo import read_yolo
from mdetr.data.store import Store
from mdetr.labeling.export import export_labels
from mdetr.labeling.label_format import LabelFormat
from mdetr.labeling.labeled_data import LabeledData

Boxes = dict[tuple[str, str], list[tuple[float, ...]]]


def _written(data: LabeledData) -> Boxes:
    """The accepted boxes by image and class."""
    boxes: Boxes = {}
    for labels in data.usable_images():
        for row in labels.accepted:
            boxes.setdefault((f"images/{labels.image}", row.name), []).append(row.box)
    return boxes


def _imported(records: Iterable[Record]) -> Boxes:
    boxes: Boxes = {}
    for record in records:
        assert isinstance(record.image, str)
        boxes.setdefault((record.image, record.text), []).extend(record.boxes)
    return boxes


def _read_reviewed(file: Path) -> Iterable[Record]:
    """Read the tasks as Label Studio exports them when the predictions have been accepted."""
    tasks = json.loads(file.read_text())
    for number, task in enumerate(tasks):
        task["id"] = number
        task["annotations"] = [{"id": number, "result": task.pop("predictions")[0]["result"]}]
    reviewed = file.with_name("export.json")
    reviewed.write_text(json.dumps(tasks))
    return read_label_studio(reviewed, "train")


READERS: dict[LabelFormat, tuple[Callable[[Path], Iterable[Record]], float]] = {
    # format -> its importer, and the rounding of its coordinates in pixels
    LabelFormat.COCO: (lambda path: read_coco(path, "train"), 1e-3),
    LabelFormat.YOLO: (lambda path: read_yolo(path, "train"), 1e-3),
    LabelFormat.VOC: (lambda path: read_voc(path.parent, "train"), 0.51),
    LabelFormat.LABEL_STUDIO: (_read_reviewed, 1e-3),
    LabelFormat.JSONL: (lambda path: read_json_lines(path, "train"), 0.0051),
    LabelFormat.STORE: (Store.open, 1e-3),
}


@pytest.mark.parametrize("label_format", LabelFormat)
def test_the_importer_reads_the_boxes_that_were_written(
    label_format: LabelFormat, labeled: LabeledData
) -> None:
    read, tolerance = READERS[label_format]
    imported = _imported(read(labeled.folder / export_labels(labeled, label_format)))
    written = _written(labeled)
    assert sum(map(len, written.values())) > 30
    assert imported.keys() == written.keys()
    for key, boxes in written.items():
        for box, expected in zip(sorted(imported[key]), sorted(boxes), strict=True):
            assert box == pytest.approx(expected, abs=tolerance)


def test_coco_has_ids_from_one_and_scores(labeled: LabeledData) -> None:
    content = json.loads((labeled.folder / export_labels(labeled, LabelFormat.COCO)).read_text())
    names = ["block", "can", "ball", "grape"]
    assert content["categories"] == [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    assert [image["id"] for image in content["images"]] == list(range(1, 9))
    assert [entry["id"] for entry in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )
    for entry in content["annotations"]:
        assert entry["area"] == pytest.approx(math.prod(entry["bbox"][2:]))
        assert 0.7 <= entry["score"] <= 1


def test_an_image_without_objects_is_part_of_the_data_set(labeled: LabeledData) -> None:
    export_labels(labeled, LabelFormat.YOLO)
    label_files = {file.stem for file in (labeled.folder / "labels" / "day 1").iterdir()}
    assert label_files == {Path(labels.image).stem for labels in labeled.usable_images()}


@pytest.mark.parametrize("kind", ["labeled", "captioned"])
def test_label_studio_accepts_the_predictions_with_their_configuration(
    kind: str, request: pytest.FixtureRequest
) -> None:
    data: LabeledData = request.getfixturevalue(kind)
    tasks = json.loads((data.folder / export_labels(data, LabelFormat.LABEL_STUDIO)).read_text())
    interface = LabelInterface((data.folder / "label-studio.xml").read_text())
    assert len(tasks) == len(list(data.usable_images()))
    for task in tasks:
        (prediction,) = task["predictions"]
        assert interface.validate_prediction(prediction)
        assert set(task["data"]) == ({"image"} if data.class_names else {"image", "caption"})

    # The check of Label Studio's library can fail
    prediction["result"][0]["type"] = "choices"
    assert not interface.validate_prediction(prediction)


@pytest.mark.parametrize("label_format", [LabelFormat.JSONL, LabelFormat.LABEL_STUDIO, LabelFormat.STORE])
def test_captions_keep_their_text_and_the_words_of_each_box(
    label_format: LabelFormat, captioned: LabeledData
) -> None:
    read, _ = READERS[label_format]
    records = list(read(captioned.folder / export_labels(captioned, label_format)))
    expected = Counter(
        (f"images/{labels.image}", labels.text, row.spans) for labels in captioned for row in labels.accepted
    )
    found = Counter((record.image, record.text, spans) for record in records for spans in record.spans)
    assert sum(expected.values()) >= 3
    assert found == expected


def test_scores_are_kept_for_training(labeled: LabeledData) -> None:
    store = Store.open(labeled.folder / export_labels(labeled, LabelFormat.STORE))
    for record in store:
        scores = json.loads(record.extra or "")["scores"]
        assert len(scores) == len(record.boxes)
        assert all(score >= 0.7 for score in scores)


def test_the_settings_of_yolo_name_no_folder_so_that_they_work_from_anywhere(labeled: LabeledData) -> None:
    settings = yaml.safe_load((labeled.folder / export_labels(labeled, LabelFormat.YOLO)).read_text())
    assert set(settings) == {"train", "val", "names"}
    assert (labeled.folder / settings["train"]).is_dir()
