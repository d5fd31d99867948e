"""Tokens, rates and other limits, with the application in the process of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mdetr.errors import InvalidInputError
from mdetr.server.config import Limits, read_token
from mdetr.server.guard import RateLimiter
from mdetr.server.jobs import Job, Outcome
from tests.server.conftest import SCENE, in_base64, make_png

BODY = {"image": in_base64(SCENE.read_bytes()), "text": "a red cube"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "secret"}, 401),
        ({"Authorization": "Bearer s\u00e9cret"}, 401),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": f"Basic {in_base64(b'user:wrong')}"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer secret"}, 200),
        ({"Authorization": f"Basic {in_base64(b'user:secret')}"}, 200),
    ],
)
def test_a_token_is_required_if_the_server_has_one(
    make_client: Callable[..., TestClient], headers: dict[str, str], status: int
) -> None:
    client = make_client(token="secret")
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    assert client.post("/ground", json=BODY, headers=encoded).status_code == status
    assert client.get("/metrics", headers=encoded).status_code == status
    assert client.get("/label-studio/health", headers=encoded).status_code == status
    assert client.get("/health").status_code == 200


def test_tokens_come_from_a_file_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MDETR_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("MDETR_TOKEN", "from-environment")
    assert read_token(None) == "from-environment"
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert read_token(file) == "from-file"
    for content in ("", "two words", "\u00e9"):
        file.write_text(content)
        with pytest.raises(InvalidInputError, match="Expected a token of printable ASCII"):
            read_token(file)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_token(tmp_path / "nowhere")


def test_a_client_that_sends_too_many_requests_has_to_wait(make_client: Callable[..., TestClient]) -> None:
    client = make_client(limits=Limits(requests_per_minute=3))
    assert [client.get("/metrics").status_code for _ in range(4)] == [200, 200, 200, 429]
    response = client.post("/ground", json=BODY)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 20
    assert "at most 3 requests a minute" in response.json()["detail"]
    assert client.get("/health").status_code == 200


def test_wrong_tokens_count_as_requests(make_client: Callable[..., TestClient]) -> None:
    client = make_client(token="secret", limits=Limits(requests_per_minute=3))
    wrong = {"Authorization": "Bearer wrong"}
    assert [client.get("/metrics", headers=wrong).status_code for _ in range(4)] == [401, 401, 401, 429]


def test_only_a_browser_is_offered_basic_authentication(make_client: Callable[..., TestClient]) -> None:
    client = make_client(token="secret")
    assert client.get("/metrics").headers["www-authenticate"] == 'Basic realm="mdetr", Bearer'
    assert client.post("/ground").headers["www-authenticate"] == "Bearer"


def test_the_rate_of_each_client_is_its_own_and_recovers() -> None:
    rate = RateLimiter(60)
    assert [rate.wait_seconds("a", now=0.0) for _ in range(60)] == [0.0] * 60
    assert rate.wait_seconds("a", now=0.25) == pytest.approx(0.75)
    assert rate.wait_seconds("b", now=0.25) == 0
    assert rate.wait_seconds("a", now=1.0) == 0
    assert rate.wait_seconds("a", now=1.0) == pytest.approx(1.0)


class _StuckQueue:
    """A worker that never answers."""

    async def submit(self, job: Job) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError


class _FailingQueue:
    async def submit(self, job: Job) -> Outcome:
        raise RuntimeError("a detail that is for the log only")


def test_a_prediction_that_takes_too_long_is_given_up(make_client: Callable[..., TestClient]) -> None:
    client = make_client(_StuckQueue(), limits=Limits(seconds=0.2))
    response = client.post("/ground", json=BODY)
    assert response.status_code == 504
    assert response.json()["detail"].startswith("There was no result within 0.2 s")


def test_a_failure_of_the_server_tells_strangers_nothing(make_client: Callable[..., TestClient]) -> None:
    response = make_client(_FailingQueue()).post("/ground", json=BODY)
    assert response.status_code == 500
    assert response.json() == {"detail": "The server failed to answer; its log says why. Try again."}


def test_a_server_that_is_busy_says_so(make_client: Callable[..., TestClient]) -> None:
    response = make_client(limits=Limits(max_waiting=0)).post("/ground", json=BODY)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(("size", "status"), [((100, 100), 200), ((100, 101), 400)])
def test_images_with_too_many_pixels_are_refused(
    make_client: Callable[..., TestClient], size: tuple[int, int], status: int
) -> None:
    client = make_client(limits=Limits(max_pixels=10_000))
    response = client.post("/ground", json=BODY | {"image": in_base64(make_png(size))})
    assert response.status_code == status
    if status == 400:
        assert response.json()["detail"].startswith("Expected an image of at most 0.01 million pixels, got")


def _post_address(client: TestClient, address: str) -> Any:
    return client.post("/ground", json={"image_url": address, "text": "a red cube"})


def test_addresses_in_private_networks_are_read_only_if_allowed(
    make_client: Callable[..., TestClient], file_server: tuple[str, list[dict[str, str]]]
) -> None:
    address, _ = file_server
    refused = _post_address(make_client(), f"{address}/shapes.png")
    assert refused.status_code == 400
    assert "is in a private network" in refused.json()["detail"]
    allowed = make_client(private_addresses=True)
    assert _post_address(allowed, f"{address}/shapes.png").json()["groundings"][0]["phrase"] == "a red cube"
    assert "returned 404" in _post_address(allowed, f"{address}/nowhere.png").json()["detail"]
    small = make_client(private_addresses=True, limits=Limits(max_bytes=2000))
    assert "has more than" in _post_address(small, f"{address}/shapes.png").json()["detail"]
