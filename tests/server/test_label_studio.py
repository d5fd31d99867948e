"""The ML backend of Label Studio, with Label Studio's own reading of the predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from label_studio_sdk.label_interface import LabelInterface
from starlette.testclient import TestClient

from mdetr import Mdetr
from mdetr.data.sources.label_studio import read_label_studio
from mdetr.server.config import LabelStudioHost
from tests.label_studio.test_config import CAPTIONS, CLASSES, SEPARATE
from tests.server.conftest import SCENE, in_base64

DATA_URL = f"data:image/png;base64,{in_base64(SCENE.read_bytes())}"
CAPTION = "two purple metal balls and a red cube"


def _request(config: str, *data: dict[str, Any]) -> dict[str, Any]:
    """What Label Studio sends."""
    tasks = [
        {"id": number, "data": content, "annotations": [], "predictions": []}
        for number, content in enumerate(data, start=1)
    ]
    return {
        "tasks": tasks,
        "model_version": "clevr-tiny",
        "project": "1.1700000000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


def _results(prediction: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    return [result for result in prediction["result"] if result["type"] in types]


def _check(config: str, prediction: dict[str, Any]) -> None:
    """Check the regions of a prediction as Label Studio's own library does, and their relations."""
    regions: list[dict[str, Any]] = []
    for result in prediction["result"]:
        if (
            result["type"] == "labels"
        ):  # this version of the library knows only texts as positions, as in HTML
            assert isinstance(result["value"]["start"], int)
            positions = {key: str(result["value"][key]) for key in ("start", "end")}
            result = result | {"value": result["value"] | positions}
        if result["type"] != "relation":
            regions.append(result)
    assert LabelInterface(config).validate_prediction(prediction | {"result": regions})

    identifiers = {region["id"] for region in regions}
    for relation in _results(prediction, "relation"):
        assert set(relation) == {"type", "from_id", "to_id", "direction"}
        assert {relation["from_id"], relation["to_id"]} <= identifiers


def _in_pixels(result: dict[str, Any]) -> list[float]:
    value, width, height = result["value"], result["original_width"], result["original_height"]
    x0, y0 = value["x"] / 100 * width, value["y"] / 100 * height
    return [x0, y0, x0 + value["width"] / 100 * width, y0 + value["height"] / 100 * height]


def test_a_project_is_connected(client: httpx.Client) -> None:
    assert client.get("/label-studio/health").json()["status"] == "UP"
    assert client.get("/label-studio").status_code == 200
    setup = {"project": "1.17", "schema": CAPTIONS, "hostname": "http://localhost:8080", "access_token": "a"}
    assert client.post("/label-studio/setup", json=setup).json() == {"model_version": "clevr-tiny"}
    assert client.post("/label-studio/setup", json=setup | {"schema": "<View></View>"}).status_code == 200
    assert client.post("/label-studio/setup", json=setup | {"schema": "hello"}).status_code == 400
    refused = client.post("/label-studio/setup", json=setup | {"schema": '<View><Image name="a"/></View>'})
    assert refused.status_code == 400
    assert "add <RectangleLabels" in refused.json()["detail"]
    assert client.post("/label-studio/versions", json={"project": "1"}).json() == {"versions": ["clevr-tiny"]}
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
    assert client.post("/label-studio/webhook", json=event).status_code == 201


def test_boxes_of_classes_are_in_percent_and_have_labels(client: httpx.Client, model: Mdetr) -> None:
    response = client.post("/label-studio/predict", json=_request(CLASSES, {"image": DATA_URL}))
    (prediction,) = response.json()["results"]
    _check(CLASSES, prediction)
    expected = model.detect(SCENE, ["cube", "block", "ball"], threshold=0.25)
    objects = {"cube": "Cube", "block": "Cube", "ball": "ball"}
    boxes = _results(prediction, "rectanglelabels")
    assert len(boxes) == len(prediction["result"]) >= 3
    assert {box["value"]["rectanglelabels"][0] for box in boxes} == {
        objects[name] for name in expected.labels
    }
    best = boxes[0]
    assert _in_pixels(best) == pytest.approx(list(expected[0].box), abs=0.05)
    assert best["value"]["rectanglelabels"] == [objects[expected[0].name]]
    assert best["score"] == pytest.approx(expected[0].score, abs=1e-3)
    assert prediction["score"] == pytest.approx(sum(box["score"] for box in boxes) / len(boxes))
    assert prediction["model_version"] == "clevr-tiny"


def test_labels_in_a_tag_of_their_own_belong_to_the_regions_of_the_boxes(client: httpx.Client) -> None:
    response = client.post("/label-studio/predict", json=_request(SEPARATE, {"image": DATA_URL}))
    (prediction,) = response.json()["results"]
    boxes, labels = (_results(prediction, kind) for kind in ("rectangle", "labels"))
    assert len(boxes) >= 3
    assert [box["id"] for box in boxes] == [label["id"] for label in labels]
    assert {label["value"]["labels"][0] for label in labels} == {"cube", "ball"}
    assert {(label["from_name"], label["to_name"]) for label in labels} == {("class", "image")}
    _check(SEPARATE, prediction | {"result": boxes})


def test_boxes_are_related_to_the_words_of_the_caption(client: httpx.Client, model: Mdetr) -> None:
    caption = f"\U0001f534 {CAPTION}"  # the browser counts this sign as two characters
    response = client.post(
        "/label-studio/predict", json=_request(CAPTIONS, {"image": DATA_URL, "caption": caption})
    )
    (prediction,) = response.json()["results"]
    _check(CAPTIONS, prediction)
    expected = model.ground(SCENE, caption)
    boxes = _results(prediction, "rectanglelabels")
    assert [_in_pixels(box) for box in boxes] == [
        pytest.approx(list(row.box), abs=0.05) for row in expected.groundings
    ]

    # The words of each box, by its relations and in its own field
    regions = {region["id"]: region for region in _results(prediction, "labels")}
    words = {result["id"]: result["value"]["text"] for result in _results(prediction, "textarea")}
    utf16 = caption.encode("utf-16-le")
    for box, row in zip(boxes, expected.groundings, strict=True):
        linked = [
            regions[relation["to_id"]]["value"]
            for relation in _results(prediction, "relation")
            if relation["from_id"] == box["id"]
        ]
        assert [value["text"] for value in linked] == [caption[start:end] for start, end in row.spans]
        for value in linked:
            assert utf16[2 * value["start"] : 2 * value["end"]].decode("utf-16-le") == value["text"]
        assert words[box["id"]] == [row.phrase]
    assert len(regions) == len({span for row in expected.groundings for span in row.spans})


def test_predictions_that_are_accepted_come_back_in_an_import(client: httpx.Client, tmp_path: Path) -> None:
    data = {"image": DATA_URL, "caption": CAPTION}
    (prediction,) = client.post("/label-studio/predict", json=_request(CAPTIONS, data)).json()["results"]
    (tmp_path / "shapes.png").write_bytes(SCENE.read_bytes())
    annotation = {"id": 1, "was_cancelled": False, "result": prediction["result"]}
    task = {"id": 1, "data": data | {"image": "/data/upload/1/shapes.png"}, "annotations": [annotation]}
    (tmp_path / "train.json").write_text(json.dumps([task]))
    (record,) = read_label_studio(tmp_path, "train")
    boxes = _results(prediction, "rectanglelabels")
    assert record.text == CAPTION
    assert [list(box) for box in record.boxes] == [pytest.approx(_in_pixels(box), abs=0.01) for box in boxes]
    words = {record.text[start:end] for spans in record.spans for start, end in spans}
    assert words == {"two purple metal balls", "a red cube"}


def test_a_task_that_cannot_be_read_does_not_affect_the_others(client: httpx.Client) -> None:
    tasks = [{"image": DATA_URL}, {"image": "/data/upload/1/a.png"}, {"text": "no image"}]
    results = client.post("/label-studio/predict", json=_request(CLASSES, *tasks)).json()["results"]
    assert [bool(result["result"]) for result in results] == [True, False, False]
    assert "set LABEL_STUDIO_URL" in results[1]["error"]
    assert "Expected an address in the field image" in results[2]["error"]

    refused = client.post("/label-studio/predict", json=_request(CLASSES, tasks[1]))
    assert refused.status_code == 400
    assert "set LABEL_STUDIO_URL" in refused.json()["detail"]


def test_a_task_without_a_text_has_an_empty_prediction(client: httpx.Client) -> None:
    request = _request(CAPTIONS, {"image": DATA_URL, "caption": " "}, {"image": DATA_URL})
    results = client.post("/label-studio/predict", json=request).json()["results"]
    assert [result["result"] for result in results] == [[], []]


def test_files_that_were_uploaded_to_label_studio_are_read_with_its_token(
    make_client: Callable[..., TestClient], file_server: tuple[str, list[dict[str, str]]]
) -> None:
    address, headers = file_server
    client = make_client(label_studio=LabelStudioHost(address, "key"))
    for image in ("/data/upload/1/shapes.png", f"{address}/data/upload/1/shapes.png"):
        headers.clear()
        response = client.post("/label-studio/predict", json=_request(CLASSES, {"image": image}))
        assert response.json()["results"][0]["result"]
        assert [header["authorization"] for header in headers] == ["Token key"]

    # A task cannot send the token to other paths
    headers.clear()
    outside = _request(CLASSES, {"image": "/data/../../shapes.png"})
    response = client.post("/label-studio/predict", json=outside)
    assert response.status_code == 400
    assert "an image without .." in response.json()["detail"]
    assert headers == []

    # The name of another server that begins with the same characters is no reason to send it the token
    headers.clear()
    other = f"{address}0/shapes.png"
    response = client.post("/label-studio/predict", json=_request(CLASSES, {"image": other}))
    assert response.status_code == 400
    assert headers == []


def test_a_personal_access_token_is_exchanged_for_one_that_is_valid_for_minutes(
    make_client: Callable[..., TestClient], file_server: tuple[str, list[dict[str, str]]]
) -> None:
    address, headers = file_server
    client = make_client(label_studio=LabelStudioHost(address, "header.payload.signature"))
    for _ in range(2):
        request = _request(CLASSES, {"image": "/data/upload/1/shapes.png"})
        response = client.post("/label-studio/predict", json=request)
        assert response.json()["results"][0]["result"]
    sent = [header.get("authorization", header.get("refresh")) for header in headers]
    assert sent == ["header.payload.signature", "Bearer access", "Bearer access"]

    client = make_client(label_studio=LabelStudioHost(address, "header.payload.wrong"))
    response = client.post("/label-studio/predict", json=request)
    assert response.status_code == 400
    assert "does not accept the token (Client error '401 Unauthorized'" in response.json()["detail"]
