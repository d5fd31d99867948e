"""Application and processes of the server."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from contextlib import suppress
from types import FrameType

from fastapi import Depends
from fastapi.security import HTTPBearer
from litserve import LitServer

from mdetr import __version__
from mdetr.checkpoints.abilities import read_config, supported_tasks
from mdetr.checkpoints.finding import find_model
from mdetr.errors import InvalidInputError, MdetrError
from mdetr.listening import check_port, is_loopback, print_address_when_ready
from mdetr.server.config import ServerConfig
from mdetr.server.guard import Guard
from mdetr.server.label_studio import label_studio_router
from mdetr.server.metrics import Metrics
from mdetr.server.routes import Service, add_error_handlers, task_router
from mdetr.server.worker import JobQueue, MdetrAPI

HOSTS = ("127.0.0.1", "0.0.0.0", "::")  # noqa: S104  # nosec B104
"""Addresses that LitServe can listen on."""


def create_server(config: ServerConfig, host: str) -> LitServer:
    """Create the server.

    LitServe runs the model in a process of its own, which it starts again after a failure, and the HTTP
    application in another. The routes are FastAPI's: those of LitServe take one path for each copy of the
    model, while all tasks of this server share one model and its cache of images.

    Args:
        config: Settings of the server.
        host: Address that it listens on. On a loopback address, only requests for this machine's own names
            are answered.

    Returns:
        The server, which does not run yet.

    Raises:
        CheckpointError: The model does not exist, or cannot be downloaded.
    """
    # Find the model here, so that an error is reported before any process starts
    model_config = read_config(find_model(config.model))
    queue = JobQueue()
    tasks = [task.command for task in supported_tasks(model_config)]
    server = LitServer(
        MdetrAPI(config, queue),
        accelerator="cpu",  # LitServe counts workers by it; the worker chooses its device itself
        timeout=config.limits.seconds,
        max_payload_size=config.limits.max_bytes,
        restart_workers=True,
        model_metadata={"name": config.model, "tasks": tasks, "version": __version__},
    )

    # Add the routes, and what every request passes before them
    app = server.app
    app.title, app.version = "mdetr", __version__
    metrics = Metrics()
    service = Service(config, model_config, queue, metrics)
    # The dependency only describes the token in /openapi.json, for /docs and generated clients
    described = [] if config.token is None else [Depends(HTTPBearer(auto_error=False))]
    app.include_router(task_router(service), dependencies=described)
    app.include_router(label_studio_router(service), prefix="/label-studio", dependencies=described)
    add_error_handlers(app)
    app.add_middleware(
        Guard,
        limits=config.limits,
        token=config.token,
        metrics=metrics,
        loopback_names=is_loopback(host),
    )
    return server


def serve(config: ServerConfig, host: str, port: int) -> None:
    """Serve until the program is interrupted or terminated.

    Args:
        config: Settings of the server.
        host: Address to listen on, one of `HOSTS`.
        port: Port to listen on, at least 1024.

    Raises:
        InvalidInputError: The server cannot listen on this address or port.
        CheckpointError: The model does not exist, or cannot be downloaded.
        MdetrError: The worker could not load the model.
    """
    host = "127.0.0.1" if host == "localhost" else host
    if host not in HOSTS:
        raise InvalidInputError(
            f"Expected --host localhost, {', '.join(HOSTS[:-1])} or {HOSTS[-1]}, got {host!r}."
        )
    check_port(host, port)
    server = create_server(config, host)
    print(f"Loading {config.model}.", flush=True)
    print_address_when_ready(server.app, host, port)
    stop = _Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        server.run(
            host=host,
            port=port,
            num_api_servers=1,  # the rates and the metrics are those of all requests
            generate_client_file=False,
            log_level="warning",
            access_log=False,
        )
    except RuntimeError:  # the worker could not load the model
        raise MdetrError("The server did not start; the line above says why.") from None
    except KeyboardInterrupt:  # before the model was loaded, when LitServe does not handle it
        _kill_children()
        if stop.number == signal.SIGINT:
            raise
    # Python puts the default handlers back while it ends, and another Ctrl+C would then kill it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if stop.number == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)


def _kill_children() -> None:
    """End the worker and LitServe's process of queues; a worker that loads a model would end much later."""
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join()


class _Stop:
    """Handler of the signals that end the server, by a KeyboardInterrupt, which LitServe handles."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._process = os.getpid()

    def __call__(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that was forked off, with the same handler
            os._exit(128 + number)
        if self.number is not None:  # the server ends already
            return
        self.number = number
        with suppress(OSError):  # of an output that is closed
            os.write(1, b"Stopping.\n")  # print is not safe in a signal handler
        # LitServe's thread that checks the worker logs a traceback if the process of its queues ends first
        logging.getLogger("litserve").setLevel(logging.CRITICAL)
        raise KeyboardInterrupt
