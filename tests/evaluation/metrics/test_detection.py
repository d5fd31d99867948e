"""Detection by name: annotated classes, limits on detections, and several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from mdetr.data.record import Record
from mdetr.data.store import write_store
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.evaluation.metrics import detection
from mdetr.evaluation.metrics.detection import (
    DetectionMetric,
    NamedClass,
    class_of,
    classes_of,
    image_number,
    read_classes,
)
from mdetr.processing.detections import Detections
from mdetr.processing.prediction import Prediction

CLASSES = [NamedClass(1, "cat", "r"), NamedClass(2, "dog", "f"), NamedClass(5, "bird", "c")]
CAT, DOG, NOWHERE = (10.0, 10.0, 50.0, 50.0), (60.0, 20.0, 90.0, 60.0), (0.0, 90.0, 5.0, 99.0)


def _record(image: int, number: int, *boxes: tuple[float, ...], **facts: Any) -> Record:
    named = next(named for named in CLASSES if named.number == number)
    extra = {"category_id": number, "name": named.name, "frequency": named.frequency} | facts
    names = {
        "source": "lvis",
        "split": "val",
        "id": f"{image}-{number}",
        "image": "a.png",
        "image_id": str(image),
    }
    spans = tuple(((0, 1),) for _ in boxes)
    return Record(
        **names,
        width=100,
        height=100,
        text=named.name,
        boxes=boxes,
        spans=spans,
        extra=json.dumps(extra),
    )


def _predict(*boxes_and_scores: tuple[tuple[float, ...], float]) -> Detections:
    """One box and its score for each class."""
    return _flat(
        torch.tensor([[box] for box, _ in boxes_and_scores]),
        torch.tensor([[score] for _, score in boxes_and_scores]),
    )


def _flat(boxes: torch.Tensor, scores: torch.Tensor) -> Detections:
    """Boxes (N, Q, 4) and scores (N, Q) of the first N classes."""
    labels = np.repeat([named.name for named in CLASSES[: len(scores)]], scores.shape[1])
    return Detections(boxes.reshape(-1, 4).numpy(), scores.flatten().numpy(), labels=tuple(labels))


def _update(metric: DetectionMetric, records: list[Record], detections: Detections) -> None:
    """Score one image."""
    assert metric.update([Prediction(detections)] * len(records), records) == []


def test_classes_that_are_not_annotated_in_an_image_do_not_count_there() -> None:
    metric = DetectionMetric(CLASSES)
    _update(metric, [_record(1, 1, CAT), _record(1, 2)], _predict((CAT, 0.9), (NOWHERE, 0.1), (DOG, 0.95)))
    _update(metric, [_record(2, 2, DOG)], _predict((NOWHERE, 0.99), (DOG, 0.8), (NOWHERE, 0.9)))
    scores = metric.compute()
    assert (
        scores["AP"] == scores["fixed_AP"] == pytest.approx(1)
    )  # the bird, and the cat of image 2, are not annotated
    assert (scores["APr"], scores["APf"], scores["APc"]) == pytest.approx((1, 1, -1))


def test_a_box_of_a_class_that_is_absent_is_wrong() -> None:
    metric = DetectionMetric(CLASSES)
    _update(metric, [_record(1, 1, CAT)], _predict((CAT, 0.5), (NOWHERE, 0), (NOWHERE, 0)))
    _update(metric, [_record(2, 1)], _predict((CAT, 0.9), (NOWHERE, 0), (NOWHERE, 0)))
    assert metric.compute()["AP"] == pytest.approx(0.5)


def test_a_surplus_box_is_wrong_only_where_all_are_annotated() -> None:
    for exhaustive, expected in ((True, 0.5), (False, 1.0)):
        metric = DetectionMetric(CLASSES[:1])
        boxes, scores = torch.tensor([[NOWHERE, CAT]]), torch.tensor([[0.9, 0.5]])
        _update(metric, [_record(1, 1, CAT, exhaustive=exhaustive)], _flat(boxes, scores))
        assert metric.compute()["AP"] == pytest.approx(expected)


def test_areas_are_those_of_the_data_set() -> None:
    metric = DetectionMetric(CLASSES[:1])
    _update(metric, [_record(1, 1, CAT, areas=[500.0])], _predict((CAT, 0.9)))
    scores = metric.compute()
    assert (scores["APs"], scores["APm"]) == pytest.approx((1, -1))  # the box alone has 1600


def test_detections_are_limited_per_image_or_per_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "PER_IMAGE", 1)
    metric = DetectionMetric(CLASSES[:2])
    _update(metric, [_record(1, 1, CAT), _record(1, 2, DOG)], _predict((CAT, 0.5), (DOG, 0.6)))
    scores = metric.compute()
    assert (scores["APr"], scores["APf"], scores["fixed_APr"]) == pytest.approx((0, 1, 1))
    monkeypatch.setattr(detection, "PER_CLASS", 1)
    metric = DetectionMetric(CLASSES[:1])
    for image, score in ((1, 0.5), (2, 0.6)):
        _update(metric, [_record(image, 1, CAT)], _predict((CAT, score)))
    scores = metric.compute()
    assert scores["AP"] == pytest.approx(1)
    assert scores["fixed_AR"] == 0.5


def test_without_negatives_every_class_counts_everywhere() -> None:
    def coco(image: int) -> Record:
        names = {
            "source": "coco",
            "split": "val",
            "id": f"{image}-1",
            "image": "a.png",
            "image_id": str(image),
        }
        return Record(
            **names, width=100, height=100, text="cat", boxes=(CAT,), spans=(((0, 3),),), category_ids=(1,)
        )

    metric = DetectionMetric([NamedClass(1, "cat"), NamedClass(2, "dog")])
    _update(metric, [coco(1)], _predict((CAT, 0.9), (DOG, 0.8)))
    scores = metric.compute()
    assert scores["AP"] == pytest.approx(1)
    assert not any(name.startswith("fixed") or name in ("APr", "APc", "APf") for name in scores)


def test_image_ids_of_any_form_become_numbers() -> None:
    names = ("17", "img_1", "²", "9" * 30)
    numbers = [image_number(Record("made-up", "x", "1", "a.png", name, 9, 9, "a cat")) for name in names]
    assert numbers[0] == 17
    assert len(set(np.array(numbers, dtype=np.int64))) == 4


def test_the_classes_of_a_store_and_of_a_file(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", [_record(1, 5), _record(1, 1, CAT), _record(2, 5)], tmp_path)
    assert classes_of(store) == [CLASSES[0], CLASSES[2]]
    file = tmp_path / "lvis.json"
    file.write_text(
        json.dumps({"categories": [{"id": 5, "name": "bird", "frequency": "c"}, {"id": 1, "name": "cat"}]})
    )
    assert read_classes(file) == [NamedClass(1, "cat"), CLASSES[2]]
    file.write_text(json.dumps({"categories": [{"id": 5}]}))
    with pytest.raises(InvalidRecordError, match=r'lvis\.json, category 0: it has no "name"'):
        read_classes(file)
    file.write_text(json.dumps({"categories": [{"id": 5, "name": None}]}))
    with pytest.raises(InvalidRecordError, match=r'category 0: its "name" must be a text, got null'):
        read_classes(file)
    plain = Record("made-up", "train", "1", "a.png", "a", 9, 9, "a cat")
    with pytest.raises(InvalidInputError, match="Expected a record with a class"):
        class_of(plain)


def _score(images: range) -> DetectionMetric:
    metric = DetectionMetric(CLASSES)
    for image in images:
        wobble = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(image)) * 20
        boxes = torch.tensor([CAT, DOG, NOWHERE])[:, None] + wobble
        records = [_record(image, 1, CAT), _record(image, 2, DOG) if image % 2 else _record(image, 5)]
        _update(metric, records, _flat(boxes, wobble[..., 0] / 20))
    return metric


def test_two_processes_give_what_one_would_even_if_one_has_nothing(tmp_path: Path) -> None:
    expected = _score(range(7)).compute()
    assert 0 < expected["fixed_AP"] < 1
    (tmp_path / "alone.json").write_text(json.dumps(expected))
    multiprocessing.start_processes(_check_merge, (str(tmp_path),), nprocs=2, start_method="fork")


def _check_merge(rank: int, folder: str) -> None:
    expected = json.loads((Path(folder) / "alone.json").read_text())
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for indices in ((range(0, 7, 2), range(1, 7, 2)), (range(7), range(0))):
        assert _score(indices[rank]).compute() == expected
    distributed.destroy_process_group()


def test_detections_in_a_crowd_are_not_wrong() -> None:
    for crowds, expected in (([[1, *NOWHERE]], 1.0), ([], 0.5)):
        metric = DetectionMetric(CLASSES[:1])
        boxes, scores = torch.tensor([[NOWHERE, CAT]]), torch.tensor([[0.9, 0.5]])
        _update(metric, [_record(1, 1, CAT, crowds=crowds)], _flat(boxes, scores))
        assert metric.compute()["AP"] == pytest.approx(expected)


def test_an_image_counts_once_however_many_of_its_records_are_scored() -> None:
    metric = DetectionMetric(CLASSES)
    prediction = Prediction(_predict((CAT, 0.9), (DOG, 0.8), (NOWHERE, 0.1)))
    metric.update([prediction, prediction], [_record(1, 1, CAT), _record(1, 2, DOG)])
    assert metric.compute()["AP"] == pytest.approx(1)  # a second cat or dog would be wrong


def test_detections_without_labels_and_classes_with_the_same_name_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="Expected detections with labels"):
        DetectionMetric(CLASSES).update([Prediction(Detections([CAT], [0.9]))], [_record(1, 1, CAT)])
    with pytest.raises(InvalidInputError, match="got 'cat' more than once"):
        DetectionMetric([*CLASSES, NamedClass(9, "cat")])
