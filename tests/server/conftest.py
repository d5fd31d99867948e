"""A real server in processes of its own, and the same application within the tests' process."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from mdetr import Mdetr
from mdetr.server.config import ServerConfig
from mdetr.server.guard import Guard
from mdetr.server.jobs import Job, Outcome
from mdetr.server.label_studio import label_studio_router
from mdetr.server.metrics import Metrics
from mdetr.server.predictor import BatchPredictor
from mdetr.server.routes import Service, add_error_handlers, task_router

SCENE = Path(str(resources.files("mdetr") / "assets" / "demo" / "shapes.png"))
START_SECONDS = 120
MEGABYTES = 2
TOKEN = "secret"


@dataclass(frozen=True)
class RunningServer:
    """A server with clevr-tiny.

    Attributes:
        process: Its first process, which has started the others.
        url: Its address.
    """

    process: subprocess.Popen[str]
    url: str


@contextmanager
def running_server(*options: str, **environment: str) -> Iterator[RunningServer]:
    """Start a server, and end it after the block; gives it once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "mdetr", "serve", "--model", "clevr-tiny", "--port", str(port), *options]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            _wait(process, f"http://127.0.0.1:{port}")
            yield RunningServer(process, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    """Number of a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _wait(server: subprocess.Popen[str], url: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    server.terminate()
    assert server.stdout is not None
    pytest.fail(f"The server did not start: {server.stdout.read()}")


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """A server that requires a token, and whose requests may have 2 MB; checks that it ends as it should."""
    with running_server("--max-megabytes", str(MEGABYTES), MDETR_TOKEN=TOKEN) as server:
        yield server
        processes = descendants(server.process.pid)
        server.process.terminate()
        assert server.process.wait(60) == 128 + signal.SIGTERM

        # All of its processes end with it
        end = time.monotonic() + 10
        while any(map(is_running, processes)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not [number for number in processes if is_running(number)]
        assert server.process.stdout is not None
        output = server.process.stdout.read()
        assert output.startswith(f"Loading clevr-tiny.\nReady at {server.url}/ (Ctrl+C stops it).\n")
        assert "Traceback" not in output


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=90) as client:
        yield client


@pytest.fixture(scope="session")
def model() -> Mdetr:
    """The model of the servers."""
    return Mdetr.from_pretrained("clevr-tiny", device="cpu")


class SameProcessQueue:
    """Does the jobs in the process of the tests, where the server has a worker."""

    def __init__(self, model: Mdetr) -> None:
        self._predictor = BatchPredictor(model, max_images=4)

    async def submit(self, job: Job) -> Outcome:
        (outcome,) = self._predictor.predict([job])
        return outcome


@pytest.fixture
def make_client(model: Mdetr) -> Callable[..., TestClient]:
    """Make a client of an application with other settings, without processes."""

    def make(queue: Any = None, **settings: Any) -> TestClient:
        config = ServerConfig(model="clevr-tiny", **settings)
        metrics = Metrics()
        queue = SameProcessQueue(model) if queue is None else queue
        service = Service(config, model.model.config.to_dict(), queue, metrics)
        app = FastAPI()
        app.include_router(task_router(service))
        app.include_router(label_studio_router(service), prefix="/label-studio")
        app.add_api_route("/health", lambda: "ok")
        add_error_handlers(app)
        app.add_middleware(Guard, limits=config.limits, token=config.token, metrics=metrics)
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture
def file_server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Address of a server of the demo's files on this machine, and the headers of its requests."""
    headers: list[dict[str, str]] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append({name.lower(): value for name, value in self.headers.items()})
            self.path = f"/{self.path.rpartition('/')[2]}"
            super().do_GET()

        def do_POST(self) -> None:
            """Make an access token, as Label Studio does."""
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers.append(body)
            is_valid = self.path == "/api/token/refresh/" and body["refresh"].endswith(".signature")
            self.send_response(200 if is_valid else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"access": "access"} if is_valid else {}).encode())

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(SCENE.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", headers
        server.shutdown()


def descendants(number: int) -> list[int]:
    """Numbers of the processes that a process has started, and of those that these have started."""
    file = Path(f"/proc/{number}/task/{number}/children")
    children = [int(child) for child in file.read_text().split()] if file.exists() else []
    return children + [descendant for child in children for descendant in descendants(child)]


def is_running(number: int) -> bool:
    """Whether a process runs; one that has ended stays in the table until its parent has seen that."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def make_png(size: tuple[int, int], seed: int = 0) -> bytes:
    """Make a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
