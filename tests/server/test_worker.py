"""The loop of the worker: which jobs it runs together, and what it does about failures."""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest
from litserve.utils import LitAPIStatus

from mdetr.checkpoints.registry import Task
from mdetr.inference.queries import Query
from mdetr.server.jobs import Job, Outcome
from mdetr.server.worker import BatchLoop


class _Model:
    """A model that cannot process one text, and takes up to three jobs."""

    max_batch_size = 3
    request_timeout = 10.0

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def predict(self, jobs: list[Job]) -> list[Outcome]:
        texts = [job.query.text for job in jobs]
        self.batches.append(texts)
        if "bad" in texts:
            raise MemoryError("no memory")
        return [Outcome({"text": text}) for text in texts]


class _Transport:
    """What goes back to the process for HTTP."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send(self, message: tuple[str, tuple[Any, ...]], consumer_id: int) -> None:
        uid, (content, status, *_) = message
        if status != LitAPIStatus.START:
            self.sent.append((uid, content if status == LitAPIStatus.OK else None))


def _run(*texts: str, age: float = 0.0, runs: int = 1) -> tuple[_Model, dict[str, Any]]:
    requests: queue.Queue[Any] = queue.Queue()
    for text in texts:
        requests.put((0, text, time.monotonic() - age, Job(Query(Task.GROUNDING, text), b"")))
    model, transport, loop = _Model(), _Transport(), BatchLoop()
    for _ in range(runs):
        loop.run(model, "cpu", 0, requests, transport, {}, None)
    return model, dict(transport.sent)


def test_waiting_jobs_are_run_together_up_to_the_size_of_a_batch() -> None:
    model, sent = _run("a", "b", "c", "d", runs=3)
    assert model.batches == [["a", "b", "c"], ["d"]]
    assert {uid: outcome.content["text"] for uid, outcome in sent.items()} == {uid: uid for uid in "abcd"}


def test_jobs_that_have_passed_their_time_limit_are_left_out() -> None:
    model, sent = _run("a", "b", age=11)
    assert model.batches == []
    assert sent == {}


def test_after_a_failure_each_job_of_the_batch_is_run_alone() -> None:
    model, sent = _run("a", "bad", "c")
    assert model.batches == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    assert sent["bad"] is None
    assert sent["a"].content == {"text": "a"}
    assert sent["c"].content == {"text": "c"}


def test_the_worker_ends_when_the_server_stops() -> None:
    requests: queue.Queue[Any] = queue.Queue()
    requests.put((None, None, None, None))
    with pytest.raises(SystemExit):
        BatchLoop().run(_Model(), "cpu", 0, requests, _Transport(), {}, None)
