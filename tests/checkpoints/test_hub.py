"""Models of the Hub, over real HTTP from a server on this machine; and a Hub that cannot be reached."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from mdetr.checkpoints.hub import hub_folder
from mdetr.checkpoints.loading import load
from mdetr.errors import CheckpointError

COMMIT = "0123456789" * 4


class _Hub(BaseHTTPRequestHandler):
    """Knows one repository, me/tiny, with the files of `server.folder`."""

    def do_GET(self) -> None:
        folder: Path = self.server.folder  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if path in ("/api/models/me/tiny", "/api/models/me/tiny/revision/main"):
            self._answer(json.dumps({"id": "me/tiny", "sha": COMMIT, "siblings": []}).encode())
        elif path.startswith("/api/models/me/tiny/tree/"):
            files = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                for file in folder.iterdir()
            ]
            self._answer(json.dumps(files).encode())
        elif path.startswith(f"/me/tiny/resolve/{COMMIT}/"):
            self._answer((folder / path.rpartition("/")[2]).read_bytes(), path.rpartition("/")[2])
        else:
            self._answer(b"{}", status=404, error="RepoNotFound")

    do_HEAD = do_GET

    def _answer(self, body: bytes, tag: str = "", status: int = 200, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{tag}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Hub, which is used in this process, with an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.folder = tiny_model_folder  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _use(monkeypatch, address, tmp_path)
    yield address
    server.shutdown()
    server.server_close()


def _use(monkeypatch: pytest.MonkeyPatch, address: str, folder: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))


def test_a_model_of_the_hub_loads_and_then_needs_no_network(
    hub: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, processor = load("me/tiny")
    assert model.config.model_type == "mdetr"
    assert processor.max_text_tokens == 256
    _use(monkeypatch, "http://127.0.0.1:9", tmp_path)  # where nobody listens
    assert (hub_folder("me/tiny") / "model.safetensors").is_file()


@pytest.mark.usefixtures("hub")
def test_a_repository_that_does_not_exist_is_named() -> None:
    with pytest.raises(
        CheckpointError, match=r"'me/other' from the Hugging Face Hub: there is no such repository"
    ):
        load("me/other")


def test_a_hub_that_cannot_be_reached_is_told_at_once_and_without_retries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens, so that connections are refused
        _use(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path)
        with caplog.at_level(logging.INFO), pytest.raises(CheckpointError, match="the Hub cannot be reached"):
            hub_folder("someone/something")
    assert slept == []
    assert not caplog.records
