"""Load test of `mdetr serve` on this machine: throughput, latency, failures and memory.

    .venv/bin/python benchmarks/server_load.py                  # 5,000 requests for each number of clients
    .venv/bin/python benchmarks/server_load.py --requests 200   # a short run

Clients send different texts: nine of ten about one image, the others about an image that the server has not
seen. "One at a time" is a server with batches of one request, and a single client. While the last clients
run, others hang up or send a corrupt upload, which has to be refused; no other request may fail. The memory
is that of all processes of the server, with each shared page counted once.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

SCENE = Path(str(resources.files("mdetr") / "assets" / "demo" / "shapes.png"))
COLORS = ("red", "green", "blue", "gray", "purple", "yellow", "brown", "cyan")
SHAPES = ("cube", "ball", "cylinder")
NEW_IMAGE_EVERY = 10  # requests
MAX_GROWTH = 0.1  # of the memory, from the first half of the requests to the end


@dataclass(frozen=True)
class Load:
    """What some clients measured.

    Attributes:
        clients: Number of clients at a time.
        seconds: Duration of each request, in seconds.
        elapsed: Duration of all requests, in seconds.
        failures: Messages of the requests that failed.
        megabytes: Memory of the server after the first half of the requests and after all of them.
    """

    clients: int
    seconds: list[float]
    elapsed: float
    failures: list[str]
    megabytes: tuple[float, float]

    def row(self, name: str) -> str:
        """Format the measurements as a row of the table."""
        median = statistics.median(self.seconds)
        p95 = statistics.quantiles(self.seconds, n=20)[-1]
        return (
            f"{name:<24}{len(self.seconds) / self.elapsed:>9.1f}{1000 * median:>9.0f}{1000 * p95:>9.0f}"
            f"{len(self.failures):>10}{self.megabytes[0]:>9.0f}{self.megabytes[1]:>9.0f}"
        )


@contextmanager
def running_server(*options: str) -> Iterator[tuple[int, str]]:
    """Start a server with clevr-tiny; gives the number of its process, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mdetr", "serve", "--model", "clevr-tiny", "--port", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                if server.poll() is not None:
                    raise SystemExit("The server did not start.")
                try:
                    if httpx.get(f"{url}/health", trust_env=False).is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield server.pid, url
        finally:
            server.terminate()


def memory_megabytes(process: int) -> float:
    """Read the memory of a process and of those that it started, in MB; 0 on systems without /proc."""
    rollup = Path(f"/proc/{process}/smaps_rollup")
    children = Path(f"/proc/{process}/task/{process}/children")
    if not rollup.exists():
        return 0.0
    (line,) = (line for line in rollup.read_text().splitlines() if line.startswith("Pss:"))
    started = sum(memory_megabytes(int(child)) for child in children.read_text().split())
    return int(line.split()[1]) / 1024 + started


def make_image(seed: int) -> bytes:
    """Make a picture of noise that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def send(client: httpx.Client, number: int) -> str | None:
    """Send one request; returns the reason if its response is not as expected."""
    text = f"a {COLORS[number % 8]} {SHAPES[number // 8 % 3]}"
    content = make_image(number) if number % NEW_IMAGE_EVERY == 0 else SCENE.read_bytes()
    try:
        response = client.post("/ground", data={"text": text}, files={"image": content})
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    if response.status_code != 200:
        return f"{response.status_code}: {response.text}"
    return None if response.json()["text"] == text else f"another text: {response.text}"


def run_clients(process: int, url: str, clients: int, requests: int) -> Load:
    """Send requests from several clients at a time.

    Args:
        process: Number of the server's process.
        url: Its address.
        clients: Number of clients.
        requests: Number of requests of all clients together.

    Returns:
        What they measured.
    """
    numbers, lock = count(), threading.Lock()
    seconds: list[float] = []
    failures: list[str] = []
    half: list[float] = []

    def run_client(_: int) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
            while True:
                with lock:
                    number = next(numbers)
                    if number == requests // 2:
                        half.append(memory_megabytes(process))
                if number >= requests:
                    return
                start = time.perf_counter()
                failure = send(client, number)
                with lock:
                    seconds.append(time.perf_counter() - start)
                    if failure is not None:
                        failures.append(failure)

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run_client, range(clients)))
    elapsed = time.perf_counter() - start
    return Load(clients, seconds, elapsed, failures, (half[0], memory_megabytes(process)))


def disturb(url: str, stop: threading.Event) -> list[str]:
    """Hang up, and send corrupt uploads, until the event is set; returns what was not refused as expected."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps({"image": "A" * 20_000, "text": "a red cube"}).encode()
    head = (
        "POST /ground HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    corrupt = SCENE.read_bytes()[:5000]
    wrong: list[str] = []
    while not stop.is_set():
        # Hang up before the body, in the middle of it, and before the response
        for sent in (b"", body[:5000], body):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(head.encode() + sent)

        # Send an image that is cut off
        response = httpx.post(
            f"{url}/ground", data={"text": "a cube"}, files={"image": corrupt}, trust_env=False, timeout=120
        )
        if response.status_code != 400 or "damaged or cut off" not in response.text:
            wrong.append(f"{response.status_code}: {response.text}")
        stop.wait(0.2)
    return wrong


def main() -> None:
    """Print the table; the exit code is 1 if a request failed or the memory grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000, help="requests for each number of clients")
    requests = parser.parse_args().requests
    print(f"{os.cpu_count()} processors, {requests} requests each, clevr-tiny, 9 of 10 images cached")
    print(f"{'':<24}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'failures':>10}{'MB half':>9}{'MB end':>9}")
    loads: list[Load] = []

    # One request at a time
    with running_server("--batch-size", "1") as (process, url):
        run_clients(process, url, 1, 20)  # warm up
        loads.append(run_clients(process, url, 1, requests))
        print(loads[-1].row("one at a time"), flush=True)

    # Several clients; the last ones are disturbed by others
    with running_server() as (process, url):
        run_clients(process, url, 16, 700)  # warm up with the largest batches, and fill the cache
        for clients in (1, 4, 16):
            loads.append(run_clients(process, url, clients, requests))
            print(loads[-1].row(f"{clients} clients"), flush=True)
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            disturber = pool.submit(disturb, url, stop)
            loads.append(run_clients(process, url, 16, requests))
            stop.set()
            wrong = disturber.result()
        print(loads[-1].row("16, others hang up"), flush=True)

    failures = [failure for load in loads for failure in load.failures] + wrong
    grown = loads[-1].megabytes[1] / loads[1].megabytes[0] - 1
    print(f"{len(failures)} failures; the memory changed by {grown:+.1%} over all parts of the second server")
    for failure in failures[:5]:
        print(failure)
    raise SystemExit(bool(failures) or grown > MAX_GROWTH)


if __name__ == "__main__":
    main()
