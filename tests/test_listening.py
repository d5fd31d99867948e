"""Addresses that servers listen on."""

from __future__ import annotations

import socket

import pytest

from mdetr.errors import InvalidInputError
from mdetr.listening import check_port, is_loopback, is_loopback_name


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback_addresses_are_recognized(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("evil.test", False),
        ("localhost.evil.test", False),
        ("evil.test@localhost", False),
        ("[::1", False),
        ("", False),
        (None, False),
    ],
)
def test_names_of_this_machine_are_recognized(header: str | None, expected: bool) -> None:
    assert is_loopback_name(header) is expected


def test_a_port_that_is_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InvalidInputError, match=f"Cannot listen on 127.0.0.1:{port} .*another --port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
