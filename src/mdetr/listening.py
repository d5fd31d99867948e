"""Addresses that the page and the server listen on."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mdetr.errors import InvalidInputError

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that a server on a loopback address answers to.

Other names may be those of a stranger, whose web page reaches the server through a name that resolves to this
machine.
"""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_name(host: str | None) -> bool:
    """Return whether a client calls this machine by its own name.

    Args:
        host: The header Host of a request, such as "localhost:8000".

    Returns:
        Whether it is one of `LOOPBACK_NAMES`.
    """
    if host is None or set("@/?#") & set(host):
        return False
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and (f"[{name}]" if ":" in name else name) in LOOPBACK_NAMES


def check_port(host: str, port: int) -> None:
    """Check that a server can listen on an address and a port.

    Args:
        host: Address to listen on.
        port: Port to listen on.

    Raises:
        InvalidInputError: The port is in use, or the machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python appends the address
        raise InvalidInputError(
            f"Cannot listen on {host}:{port} ({reason}); choose another --port or --host."
        ) from None


def print_address_when_ready(app: FastAPI, host: str, port: int) -> None:
    """Print the address of an application as soon as it starts, right before its port opens.

    Args:
        app: The application.
        host: Address that it listens on.
        port: Port that it listens on.
    """
    name = f"[{host}]" if ":" in host else host
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def announced(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            print(f"Ready at http://{name}:{port}/ (Ctrl+C stops it).", flush=True)
            yield state

    app.router.lifespan_context = announced
