"""The server of the page: what it answers, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import running_server


@pytest.fixture
def client(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, trust_env=False, timeout=30)


def test_the_browser_may_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_name_that_a_stranger_points_to_this_machine_is_not_answered(client: httpx.Client) -> None:
    assert client.get("/", headers={"Host": "evil.test"}).status_code == 400
    assert client.get("/", headers={"Host": "localhost"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=../../../../etc/passwd",
        "gradio_api/file=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "gradio_api/file=file:///etc/passwd",
        "gradio_api/file=pyproject.toml",
        "static/../../../etc/passwd",
        "assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_no_file_of_the_machine_can_be_read(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (403, 404)
    assert "root:" not in response.text


def test_a_request_for_another_file_than_an_upload_is_refused(client: httpx.Client, address: str) -> None:
    """A visitor who writes requests by hand names a file of the machine as the uploaded image."""
    config = client.get("/config").json()
    handler = next(entry for entry in config["dependencies"] if entry["api_name"] == "predict")
    data = [
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        *("grounding", "a cat", [], "photo-tiny", 0.5, 0.7),
    ]
    body = {"data": data, "fn_index": handler["id"], "session_hash": "stranger"}
    client.post("/gradio_api/queue/join", json=body)
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "stranger"}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                assert not message["success"]
                break


def test_an_upload_that_is_too_large_is_refused(client: httpx.Client) -> None:
    files = {"files": ("large.png", b"\0" * 32_000_000, "image/png")}
    assert client.post("/gradio_api/upload", files=files).status_code == 413


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_uploads_are_deleted_when_the_server_stops(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with running_server("--model", "clevr-tiny", TMPDIR=str(tmp_path)) as server:
        files = {"files": ("a.png", b"picture", "image/png")}
        httpx.post(f"{server.url}gradio_api/upload", files=files, trust_env=False).raise_for_status()
        assert len(list(tmp_path.rglob("a.png"))) == 1
        server.process.send_signal(number)
        assert server.process.wait(60) == code
    assert list(tmp_path.glob("mdetr-app-*")) == []


def test_the_server_stops_while_a_page_is_open() -> None:
    with running_server("--model", "clevr-tiny") as server:
        heartbeat = f"{server.url}gradio_api/heartbeat/session"  # an open page listens to it all the time
        with httpx.stream("GET", heartbeat, trust_env=False, timeout=60) as stream:
            assert stream.status_code == 200
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 143
        assert server.printed() == f"Loading clevr-tiny.\nReady at {server.url} (Ctrl+C stops it).\n"


def test_a_port_that_is_in_use_is_explained(address: str) -> None:
    port = address.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "mdetr", "app", "--port", port, "--model", "clevr-tiny"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in run.stderr
    assert "choose another --port" in run.stderr


def test_gradio_leaves_no_files_beside_the_modules() -> None:
    import mdetr.app.page

    assert list(Path(mdetr.app.page.__file__).parent.glob("*.pyi")) == []
