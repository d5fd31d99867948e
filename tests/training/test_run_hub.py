"""Upload of a model over real HTTP, to a server that implements the necessary part of the Hub."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.small_training import small_recipe


class _Hub(BaseHTTPRequestHandler):
    """Keeps what is committed in `server.files`, and knows one token."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer right":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            self._answer({"url": f"{self.server.url}/{asked['organization']}/{asked['name']}"})  # type: ignore[attr-defined]
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content  # type: ignore[attr-defined]
            url = self.server.url  # type: ignore[attr-defined]
            self._answer({"commitUrl": f"{url}/me/shapes/commit/1", "commitOid": "1", "pullRequestUrl": None})
        else:
            self._answer({}, 200)

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Bearer right":
            self._answer({"error": "Invalid username or password."}, 401)
        else:
            self._answer({"id": "me/shapes", "sha": "1", "siblings": []})

    def _answer(self, content: dict[str, object], status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.files = {}  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def _train(store: Path, folder: Path, url: str, token: str) -> subprocess.CompletedProcess[str]:
    content = small_recipe(store, push_to_hub="me/shapes", save_every=1000)
    content["optimizer"] |= {"steps": 1}
    content["data"]["validation"] = {}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    hub = {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "mdetr", "train", str(recipe), "--output", str(folder / "run")]
    return subprocess.run(command, env=os.environ | hub, capture_output=True, text=True)


def test_a_run_ends_on_the_hub(shapes_store: Path, tmp_path: Path, hub: ThreadingHTTPServer) -> None:
    result = _train(shapes_store, tmp_path, hub.url, "right")  # type: ignore[attr-defined]
    assert result.returncode == 0, result.stderr
    files: dict[str, bytes] = hub.files  # type: ignore[attr-defined]
    assert {"config.json", "model.safetensors", "tokenizer.json", "report.html", "recipe.yaml"} <= set(files)
    assert files["model.safetensors"] == (tmp_path / "run" / "model" / "model.safetensors").read_bytes()


def test_a_refusal_of_the_hub_is_reported_before_anything_starts(
    shapes_store: Path, tmp_path: Path, hub: ThreadingHTTPServer
) -> None:
    result = _train(shapes_store, tmp_path, hub.url, "wrong")  # type: ignore[attr-defined]
    assert result.returncode == 1
    assert "run.push_to_hub: me/shapes cannot be created on the Hub" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "model").exists()


def test_an_unreachable_hub(shapes_store: Path, tmp_path: Path) -> None:
    result = _train(shapes_store, tmp_path, "http://127.0.0.1:9", "right")
    assert result.returncode == 1
    assert "run.push_to_hub: me/shapes cannot be created on the Hub" in result.stderr
    assert "Traceback" not in result.stderr
