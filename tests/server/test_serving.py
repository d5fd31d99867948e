"""Processes of the server: what happens when one fails, or when the server ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.server.config import ServerConfig
from mdetr.server.serving import create_server, serve
from tests.server.conftest import SCENE, RunningServer, descendants, in_base64, is_running

BODY = {"image": in_base64(SCENE.read_bytes()), "text": "a red cube"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processes from /proc")
def test_a_worker_that_is_killed_is_replaced(server: RunningServer, client: httpx.Client) -> None:
    assert client.post("/ground", json=BODY).status_code == 200
    (worker,) = (
        number
        for number in descendants(server.process.pid)
        if "spawn_main" in Path(f"/proc/{number}/cmdline").read_text()
    )
    os.kill(worker, signal.SIGKILL)
    end, status = time.monotonic() + 120, 0
    while status != 200 and time.monotonic() < end:  # a request in between may get no answer in time
        status = client.post("/ground", json=BODY).status_code
        assert status in (200, 504)
    assert status == 200
    assert not is_running(worker)


def test_the_token_of_the_environment_is_required(server: RunningServer, client: httpx.Client) -> None:
    assert httpx.post(f"{server.url}/ground", json=BODY, trust_env=False).status_code == 401
    assert client.post("/ground", json=BODY).status_code == 200


def test_a_model_that_does_not_exist_is_reported_before_anything_starts() -> None:
    with pytest.raises(CheckpointError, match="clevr-tiny"):
        create_server(ServerConfig(model="clevr-tin"), "127.0.0.1")


def test_a_port_that_is_in_use_is_explained(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(InvalidInputError, match=f"Cannot listen on 127.0.0.1:{port}"):
        serve(ServerConfig(model="clevr-tiny"), "localhost", port)
    with pytest.raises(InvalidInputError, match=r"Expected a host of .*, got 10\.0\.0\.1"):
        serve(ServerConfig(model="clevr-tiny"), "10.0.0.1", port)


def test_the_command_explains_itself() -> None:
    command = [sys.executable, "-m", "mdetr", "serve", "--token-file", "nowhere"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "The token in nowhere cannot be read" in run.stderr
