"""Addresses that the page and the server listen on."""

from __future__ import annotations

import ipaddress
import socket

from mdetr.errors import InvalidInputError

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
        raise InvalidInputError(
            f"Cannot listen on {host}:{port} ({error.strerror or error}); choose another --port or --host."
        ) from None
