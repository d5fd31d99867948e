"""Predictions for several jobs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.ops import box_iou

from mdetr import Mdetr
from mdetr.checkpoints.registry import Task
from mdetr.inference.queries import Query
from mdetr.server.jobs import Job
from mdetr.server.predictor import BatchPredictor
from tests.server.conftest import make_png

IMAGES = [make_png(size, seed) for seed, size in enumerate([(90, 60), (60, 80), (90, 60)])]


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Path) -> Mdetr:
    return Mdetr.from_pretrained(tiny_model_folder, device="cpu")


def _job(task: Task, image: bytes, text: str = "a red cube", **options: Any) -> Job:
    query = Query(task, names=("cube", "ball")) if task is Task.DETECTION else Query(task, text)
    return Job(query, image, threshold=0, **options)


@pytest.mark.parametrize("task", Task)
def test_each_job_of_a_batch_gets_the_result_that_it_gets_alone(tiny: Mdetr, task: Task) -> None:
    jobs = [
        _job(task, image, text) for image, text in zip(IMAGES, ("a cube", "two balls", "it"), strict=True)
    ]
    outcomes = BatchPredictor(tiny, 8).predict(jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if task is Task.DETECTION:
            alone = tiny.detect(job.image, job.query.names, threshold=0).to_dict()
        else:
            alone = getattr(tiny, task.command)(job.image, job.query.text, threshold=0).to_dict()
        assert outcome.content is not None
        assert outcome.batch_size == 3
        assert set(outcome.content) == set(alone)
        for key in ("box", "score"):
            if key in alone:
                assert outcome.content[key] == pytest.approx(alone[key], abs=1e-2)
        for key in ("groundings", "detections", "objects"):
            ours, expected = outcome.content.get(key, []), alone.get(key, [])
            assert [entry["score"] for entry in ours] == pytest.approx(
                [entry["score"] for entry in expected], abs=1e-3
            )


def test_jobs_of_several_tasks_share_the_encoding_of_an_image(tiny: Mdetr) -> None:
    counts: list[int] = []
    hook = tiny.model.backbone.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    predictor = BatchPredictor(tiny, 8)
    first = predictor.predict([_job(task, IMAGES[0]) for task in (Task.GROUNDING, Task.REFERRING)])
    second = predictor.predict([_job(Task.DETECTION, IMAGES[0]), _job(Task.ANSWERING, IMAGES[2])])
    hook.remove()
    assert counts == [1, 1]
    assert [outcome.is_cached for outcome in (*first, *second)] == [False, True, True, False]


def test_images_used_least_recently_are_encoded_again(tiny: Mdetr) -> None:
    predictor = BatchPredictor(tiny, 2)
    order = (0, 1, 0, 2, 0, 1)  # 2 replaces 1
    cached = [predictor.predict([_job(Task.GROUNDING, IMAGES[index])])[0].is_cached for index in order]
    assert cached == [False, False, True, False, True, False]


def test_invalid_jobs_do_not_affect_the_others(tiny: Mdetr) -> None:
    jobs = [
        _job(Task.GROUNDING, IMAGES[0]),
        _job(Task.GROUNDING, b"no image"),
        _job(Task.GROUNDING, IMAGES[1], "word " * 300),
        _job(Task.GROUNDING, IMAGES[2]),
    ]
    outcomes = BatchPredictor(tiny, 8).predict(jobs)
    assert [outcome.content is None for outcome in outcomes] == [False, True, True, False]
    assert "is not an image in a known format" in str(outcomes[1].error)
    assert "tokens" in str(outcomes[2].error)
    alone = tiny.ground(IMAGES[2], "a red cube", threshold=0).to_dict()["groundings"]
    assert outcomes[3].content is not None
    assert len(outcomes[3].content["groundings"]) == len(alone)


def test_of_the_boxes_of_an_object_under_several_names_the_best_stays(tiny: Mdetr) -> None:
    query = Query(Task.DETECTION, names=("cube", "block", "ball"))
    labels = (("cube", "Cube"), ("block", "Cube"), ("ball", "ball"))
    predictor = BatchPredictor(tiny, 2)
    plain, labeled = (
        predictor.predict([Job(query, IMAGES[0], 0.0, max_overlap=0.5, labels=pairs)])[0].content
        for pairs in ((), labels)
    )
    assert plain is not None and labeled is not None
    boxes = {"Cube": [], "ball": []}
    for entry in labeled["detections"]:
        boxes[entry["name"]].append(entry["box"])
    for own in boxes.values():
        overlaps = box_iou(torch.tensor(own), torch.tensor(own)).fill_diagonal_(0)
        assert overlaps.max() <= 0.5
    names = [entry["name"] for entry in plain["detections"]]
    assert len(boxes["Cube"]) < names.count("cube") + names.count("block")
    assert len(boxes["ball"]) == names.count("ball")
