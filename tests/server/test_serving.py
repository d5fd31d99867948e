"""Processes of the server: what happens when one fails, or when the server ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import mdetr
from mdetr.cli.main import main
from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.server import serving
from mdetr.server.config import LabelStudioHost, Limits, ServerConfig
from mdetr.server.serving import create_server, serve
from tests.server.conftest import (
    SCENE,
    RunningServer,
    descendants,
    free_port,
    in_base64,
    is_running,
    running_server,
)

BODY = {"image": in_base64(SCENE.read_bytes()), "text": "a red cube"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processes from /proc")
def test_a_worker_that_is_killed_is_replaced(server: RunningServer, client: httpx.Client) -> None:
    (worker,) = (
        number
        for number in descendants(server.process.pid)
        if "spawn_main" in Path(f"/proc/{number}/cmdline").read_text()
    )

    # Kill it while it has a request that takes seconds
    names = [f"{color} {shape}" for color in ("red", "green") for shape in map(str, range(100))]
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(client.post, "/detect", json={"image": BODY["image"], "names": names})
        time.sleep(0.5)
        os.kill(worker, signal.SIGKILL)
        start = time.monotonic()
        response = request.result()
    assert response.status_code == 503
    assert response.json()["detail"].startswith("The model stopped, and is started again")
    assert time.monotonic() - start < 20

    # A request that comes meanwhile waits for the next one
    assert client.post("/ground", json=BODY).status_code == 200
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
    with pytest.raises(InvalidInputError, match=r"Expected --host localhost, .* or ::, got '10\.0\.0\.1'"):
        serve(ServerConfig(model="clevr-tiny"), "10.0.0.1", port)


def test_options_of_the_command_are_the_settings_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[ServerConfig, str, int]] = []
    monkeypatch.setattr(serving, "serve", lambda *call: calls.append(call))
    monkeypatch.setenv("MDETR_TOKEN", "secret")
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://localhost:8080/")
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    options = ["--max-megabytes", "1.5", "--max-megapixels", "2", "--max-seconds", "3", "--max-waiting", "4"]
    options += [
        "--rate",
        "5",
        "--batch-size",
        "6",
        "--cached-images",
        "7",
        "--host",
        "0.0.0.0",
        "--port",
        "8001",
    ]
    assert main(["serve", "--model", "clevr-tiny", "--device", "cpu", "--private-addresses", *options]) == 0
    config = ServerConfig(
        model="clevr-tiny",
        device="cpu",
        batch_size=6,
        cached_images=7,
        private_addresses=True,
        limits=Limits(1_500_000, 2_000_000, 3, 5, 4),
        token="secret",
        label_studio=LabelStudioHost("http://localhost:8080"),
    )
    assert calls == [(config, "0.0.0.0", 8001)]


def test_the_command_explains_itself() -> None:
    command = [sys.executable, "-m", "mdetr", "serve", "--token-file", "nowhere"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "The token in nowhere cannot be read" in run.stderr


def test_a_model_that_cannot_be_loaded_is_explained(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(Path(mdetr.__file__).parent / "assets" / "models" / "clevr-tiny", folder)
    os.truncate(folder / "model.safetensors", 1000)
    command = [sys.executable, "-m", "mdetr", "serve", "--model", str(folder), "--port", str(free_port())]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 1
    cause, end = run.stderr.splitlines()
    assert cause.startswith(f"mdetr: The files of '{folder}' are damaged")
    assert end == "mdetr: The server did not start; the line above says why."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_server_ends_while_the_model_is_loaded(number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "mdetr", "serve", "--model", "clevr-tiny", "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "Loading clevr-tiny.\n"
        time.sleep(1)  # until its worker has started
        server.send_signal(number)
        assert server.wait(20) == code
        assert "Traceback" not in server.stdout.read()  # which ends with the last of its processes


def test_signals_while_the_server_ends_change_nothing() -> None:
    with running_server() as server:
        for _ in range(3):
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        assert server.process.wait(30) == 0
        assert server.process.stdout is not None
        lines = server.process.stdout.read().splitlines()
    assert lines == ["Loading clevr-tiny.", f"Ready at {server.url}/ (Ctrl+C stops it).", "Stopping."]
