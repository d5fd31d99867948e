"""A real server of the page, and a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TextIO

import httpx
import pytest

DEMO = Path(str(resources.files("mdetr") / "assets" / "demo"))
START_SECONDS = 120


@dataclass(frozen=True)
class RunningServer:
    """A server of the page.

    Attributes:
        process: Its process.
        url: Its address.
        output: File of all that it prints.
    """

    process: subprocess.Popen[str]
    url: str
    output: TextIO

    def printed(self) -> str:
        """What it has printed so far."""
        self.output.seek(0)
        return self.output.read()


@contextmanager
def running_server(*options: str, **environment: str) -> Iterator[RunningServer]:
    """Start a server of the page; gives it once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mdetr", "app", "--port", str(port), *options]
    variables = os.environ | {"NO_PROXY": "127.0.0.1,localhost"} | environment
    url = f"http://127.0.0.1:{port}/"
    with (
        tempfile.TemporaryFile("w+") as output,  # a full pipe would stop the server
        subprocess.Popen(command, env=variables, stdout=output, stderr=output, text=True) as process,
    ):
        server = RunningServer(process, url, output)
        try:
            _wait(server)
            yield server
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Address of a server of the page, in a process of its own."""
    with running_server() as server:
        yield server.url


def _wait(server: RunningServer) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            httpx.get(server.url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    server.process.kill()
    pytest.fail(f"The server did not start: {server.printed()}")
