"""A real server of the page, and a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import httpx
import pytest

DEMO = Path(str(resources.files("mdetr") / "assets" / "demo"))
START_SECONDS = 120


@contextmanager
def running_server(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server of the page; gives its process and its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mdetr", "app", "--port", str(port), *options]
    variables = os.environ | {"NO_PROXY": "127.0.0.1,localhost"} | environment
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        url = f"http://127.0.0.1:{port}/"
        try:
            _wait(server, url)
            yield server, url
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Address of a server of the page, in a process of its own."""
    with running_server() as (_, url):
        yield url


def _wait(server: subprocess.Popen[str], url: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    server.kill()
    assert server.stderr is not None
    pytest.fail(f"The server did not start: {server.stderr.read()}")
