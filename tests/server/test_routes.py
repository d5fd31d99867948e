"""Requests to a real server: what it predicts, and what it refuses."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from mdetr import Mdetr
from mdetr.checkpoints.registry import Task
from mdetr.server.schemas import RESPONSES
from tests.server.conftest import MEGABYTES, SCENE, TOKEN, RunningServer, in_base64, make_png

CONTENT = SCENE.read_bytes()
IMAGE = in_base64(CONTENT)
QUERIES: dict[Task, dict[str, Any]] = {
    Task.GROUNDING: {"text": "two purple metal balls and a red cube"},
    Task.REFERRING: {"text": "the red cube"},
    Task.ANSWERING: {"text": "How many red cubes are there?"},
    Task.DETECTION: {"names": ["cube", "ball"], "max_overlap": 0.5},
}


def _read_metrics(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


def _flatten(value: Any) -> Iterator[Any]:
    """The numbers and texts of a result, for a comparison within float error."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield key
            yield from _flatten(value[key])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _flatten(entry)
    else:
        yield pytest.approx(value, abs=0.01) if isinstance(value, float) else value


def _expect(model: Mdetr, task: Task, threshold: float | None = None) -> dict[str, Any]:
    query = QUERIES[task]
    options = {} if threshold is None else {"threshold": threshold}
    if task is Task.DETECTION:
        return model.detect(SCENE, query["names"], max_overlap=query["max_overlap"], **options).to_dict()
    return getattr(model, task.command)(SCENE, query["text"], **options).to_dict()


@pytest.mark.parametrize("task", QUERIES)
def test_each_task_gives_the_result_of_the_library(client: httpx.Client, model: Mdetr, task: Task) -> None:
    expected = _expect(model, task)
    bodies = [
        {"json": QUERIES[task] | {"image": IMAGE}},
        {"json": QUERIES[task] | {"image": f"data:image/png;base64,{IMAGE}"}},
        {"data": QUERIES[task], "files": {"image": ("shapes.png", CONTENT, "image/png")}},
    ]
    for body in bodies:
        response = client.post(f"/{task.command}", **body)
        assert response.status_code == 200, response.text
        result = response.json()
        RESPONSES[task].model_validate(result, strict=True)
        assert list(_flatten(result)) == list(_flatten(expected))


def test_a_threshold_selects_boxes(client: httpx.Client, model: Mdetr) -> None:
    body = QUERIES[Task.GROUNDING] | {"image": IMAGE}
    for threshold in (0.02, 0.7):
        response = client.post("/ground", json=body | {"threshold": threshold})
        expected = _expect(model, Task.GROUNDING, threshold)["groundings"]
        assert len(response.json()["groundings"]) == len(expected)
    assert len(_expect(model, Task.GROUNDING, 0.02)["groundings"]) > len(expected) == 3


def test_names_of_a_form_may_be_separated_by_commas(client: httpx.Client) -> None:
    response = client.post("/detect", data={"names": "cube, ball"}, files={"image": CONTENT})
    assert response.json()["names"] == ["cube", "ball"]


def test_another_text_about_an_image_does_not_encode_it_again(client: httpx.Client) -> None:
    image = in_base64(make_png((60, 40), seed=1))
    before = _read_metrics(client)
    for text in ("a red cube", "a green ball", "a cylinder"):
        client.post("/ground", json={"image": image, "text": text}).raise_for_status()
    after = _read_metrics(client)
    sources = ('mdetr_images_total{source="encoder"}', 'mdetr_images_total{source="cache"}')
    assert [after[source] - before[source] for source in sources] == [1, 2]


def test_requests_at_a_time_share_batches_and_get_their_own_results(
    client: httpx.Client, model: Mdetr
) -> None:
    colors = ("red", "green", "blue", "gray", "purple", "yellow", "brown", "cyan")
    texts = [f"a {color} {shape}" for color in colors for shape in ("cube", "ball", "cylinder")]
    before = _read_metrics(client)
    with ThreadPoolExecutor(len(texts)) as pool:
        post = lambda text: client.post("/ground", json={"image": IMAGE, "text": text, "threshold": 0.2})  # noqa: E731
        results = [response.json() for response in pool.map(post, texts)]
    for text, result in zip(texts, results, strict=True):
        alone = model.ground(SCENE, text, threshold=0.2).to_dict()
        assert list(_flatten(result)) == list(_flatten(alone))
    after = _read_metrics(client)
    alone_key = 'mdetr_batch_size_bucket{le="1"}'
    assert after[alone_key] - before[alone_key] < len(texts) / 2


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/ground", {"image": IMAGE}, 422, "The field text is missing."),
        ("/ground", {"image": IMAGE, "text": 3}, 422, "The field text is invalid: input should be"),
        ("/ground", {"image": IMAGE, "txt": "a"}, 422, "The field text is missing."),
        (
            "/ground",
            {"image": IMAGE, "text": "a", "txt": "a"},
            422,
            "There is no field txt; expected some of",
        ),
        ("/ground", {"image": IMAGE, "text": "a", "threshold": 2}, 422, "less than or equal to 1"),
        ("/detect", {"image": IMAGE, "names": "cube"}, 422, "The field names is invalid"),
        ("/ground", {"image": IMAGE, "text": " "}, 400, "The text is empty"),
        ("/ground", {"image": IMAGE, "text": "x" * 3000}, 400, "The text has 3,000 characters; shorten it"),
        ("/ground", {"image": IMAGE, "text": "a cube " * 250}, 400, "tokens"),
        ("/detect", {"image": IMAGE, "names": []}, 400, "There is no class name"),
        ("/detect", {"image": IMAGE, "names": ["a", "a"]}, 400, "The class name 'a' is a duplicate"),
        ("/segment", {"image": IMAGE, "text": "a cube"}, 400, "has no head that makes masks"),
        ("/ground", {"text": "a"}, 400, "Expected an image in either image or image_url, got neither."),
        ("/ground", {"image": IMAGE, "image_url": "http://a.b/c", "text": "a"}, 400, "got both"),
        ("/ground", {"image": "no base64!", "text": "a"}, 400, "The field image is not valid base64"),
        ("/ground", {"image": "data:image/png,", "text": "a"}, 400, "is not an image in a known format"),
        ("/ground", {"image": in_base64(b"text"), "text": "a"}, 400, "is not an image in a known format"),
        ("/ground", {"image": in_base64(CONTENT[:4000]), "text": "a"}, 400, "is damaged or cut off"),
        ("/ground", {"image_url": "file:///etc/passwd", "text": "a"}, 400, "http:// or https://"),
        ("/ground", {"image_url": "http://127.0.0.1/a.png", "text": "a"}, 400, "is in a private network"),
        ("/ground", {"image_url": "http://a..b/a.png", "text": "a"}, 400, "no valid name of a server"),
        ("/ground", {"image_url": "http://169.254.169.254/", "text": "a"}, 400, "is in a private network"),
        ("/ground", [1], 422, "The body is JSON, but no object; send one"),
    ],
)
def test_invalid_input_is_refused_in_a_sentence(
    client: httpx.Client, path: str, body: Any, status: int, sentence: str
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["detail"]
    assert sentence in response.json()["detail"]


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "is not valid JSON"),
        (
            {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
            400,
            "nested too deeply",
        ),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "it is not UTF-8"),
        ({"content": b"a"}, 415, "Expected a body of the type multipart/form-data (curl -F)"),
        (
            {"content": b"a", "headers": {"content-type": "multipart/form-data"}},
            400,
            "The form cannot be read (Missing boundary",
        ),
        ({"content": CONTENT, "headers": {"content-type": "image/png"}}, 415, "got image/png"),
    ],
)
def test_bodies_of_other_kinds_are_refused(
    client: httpx.Client, options: dict[str, Any], status: int, sentence: str
) -> None:
    response = client.post("/ground", **options)
    assert response.status_code == status, response.text
    assert sentence in response.json()["detail"]


def test_bodies_that_are_too_large_are_refused(client: httpx.Client) -> None:
    large = b"0" * (MEGABYTES * 1_000_000 + 1)

    def parts() -> Iterator[bytes]:
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000]

    for content in (large, parts()):  # with its length in the headers, and without
        response = client.post("/ground", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert response.json()["detail"].startswith(f"The request has more than {MEGABYTES} MB")


def test_other_paths_and_methods_are_refused(client: httpx.Client) -> None:
    assert client.get("/nowhere").status_code == 404
    assert client.get("/nowhere").json()["detail"].startswith("There is no such path")
    assert client.get("/ground").status_code == 405
    refused = client.get("/health", headers={"Host": "evil.test"})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("The server answers only to localhost")


def test_the_server_survives_clients_that_hang_up(client: httpx.Client, server: RunningServer) -> None:
    target = urlsplit(server.url)
    body = (f'{{"image": "{IMAGE}", "text": "a red cube"}}').encode()
    head = "POST /ground HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    for sent in (b"", body[:1000], body):  # before the body, in it, and before the response
        with socket.create_connection((target.hostname, target.port)) as connection:
            connection.sendall(head.encode() + sent)
    response = client.post("/ground", json={"image": IMAGE, "text": "a red cube"})
    assert response.status_code == 200
    end = time.monotonic() + 10
    while _read_metrics(client)["mdetr_requests_in_progress"] > 1 and time.monotonic() < end:
        time.sleep(0.1)
    metrics = _read_metrics(client)
    assert metrics["mdetr_requests_in_progress"] == 1  # the request for the metrics
    assert metrics['mdetr_requests_total{path="/ground",status="499"}'] == 2


def test_metrics_are_in_the_format_of_prometheus(client: httpx.Client) -> None:
    client.get("/a/path/of/a/stranger")
    client.post("/answer", content=b"0" * (MEGABYTES * 1_000_000 + 1))
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+]+')
    for line in response.text.splitlines():
        assert line.startswith(("# HELP mdetr_", "# TYPE mdetr_")) or sample.fullmatch(line), line
    assert 'path="other",status="404"' in response.text
    assert 'path="/answer",status="413"' in response.text
    assert "stranger" not in response.text


def test_the_description_for_openapi_covers_all_routes(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    for task in Task:
        route = description["paths"][f"/{task.command}"]["post"]
        assert set(route["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
        assert {"200", "400", "401", "413", "422", "429"} <= set(route["responses"])
        assert route["security"] == [{"HTTPBearer": []}]
    assert "/label-studio/predict" in description["paths"]
    assert client.get("/info").json()["model"]["tasks"] == ["ground", "refer", "answer", "detect"]
