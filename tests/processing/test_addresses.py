"""Images at addresses: read over real HTTP and from fsspec's file systems; what goes wrong is told."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from mdetr.errors import InvalidInputError, MissingDependencyError
from mdetr.processing import addresses
from mdetr.processing.addresses import read_address
from mdetr.processing.images import image_size, load_image


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(file, "PNG")
    return file.getvalue()


received: list[tuple[str | None, str | None]] = []  # host and authorization of each request


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        place = self.path.partition("?")[0]
        received.append((self.headers["Host"], self.headers["Authorization"]))
        if place == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
            return
        if place in ("/circle.png", "/inside.png", "/file.png"):
            inside = f"http://127.0.0.2:{self.server.server_address[1]}/a.png"
            targets = {"/circle.png": place, "/inside.png": inside, "/file.png": "file:///etc/passwd"}
            self.send_response(302)
            self.send_header("Location", targets[place])
            self.end_headers()
            return
        self.send_response(200 if place in ("/a.png", "/page", "/slow") else 404)
        self.end_headers()
        if place == "/slow":
            for _ in range(50):
                self.wfile.write(b"." * 10)
                time.sleep(0.05)
        elif place == "/a.png":
            self.wfile.write(_png())
        else:
            self.wfile.write(b"<html></html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_an_image_is_read_from_the_web(server: str) -> None:
    for place in ("/a.png", "/a.png?size=3&key=x", "/moved.png"):
        assert load_image(server + place)[1, 2].tolist() == [10, 20, 30]
    assert image_size(f"{server}/a.png") == (2, 3)


def test_an_address_without_an_image_is_told(server: str) -> None:
    with pytest.raises(InvalidInputError, match=r"no image at .*/b\.png: the server returned 404"):
        load_image(f"{server}/b.png")
    with pytest.raises(InvalidInputError, match=r"/page is not an image in a known format"):
        load_image(f"{server}/page")


def test_a_server_that_cannot_be_reached_is_told() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(InvalidInputError, match="cannot be reached"),
        ):
            patch.setenv("NO_PROXY", "127.0.0.1")
            load_image(address)
    for wrong in ("http://", "https://[::1/a.png", "http://a b/", f"http://{'a' * 70}.b/"):
        with pytest.raises(InvalidInputError, match="cannot be reached"):
            load_image(wrong)


def test_a_limit_applies_to_one_call(server: str) -> None:
    size = len(_png())
    assert len(read_address(f"{server}/a.png", max_bytes=size)) == size
    with pytest.raises(InvalidInputError, match="has more than"):
        read_address(f"{server}/a.png", max_bytes=size - 1)
    with pytest.raises(InvalidInputError, match=r"took longer than 0\.2 s"):
        read_address(f"{server}/slow", max_seconds=0.2)


def test_headers_are_sent_to_the_first_server_only(server: str) -> None:
    headers = {"Authorization": "Token secret"}
    host = server.removeprefix("http://")
    other = f"127.0.0.2:{host.rpartition(':')[2]}"
    received.clear()
    read_address(f"{server}/moved.png", headers=headers)
    assert received == [(host, "Token secret"), (host, "Token secret")]
    received.clear()
    with pytest.raises(InvalidInputError, match="cannot be reached"):  # nothing listens there
        read_address(f"{server}/inside.png", headers=headers)
    assert received == [(host, "Token secret")]
    assert other not in dict(received)


def test_what_is_too_large_or_too_slow_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "MAX_SECONDS", 0.2)
    with pytest.raises(InvalidInputError, match=r"took longer than 0\.2 s; use a copy"):
        load_image(f"{server}/slow")
    monkeypatch.setattr(addresses, "MAX_BYTES", 20)
    for address in (f"{server}/a.png", _in_memory()):
        with pytest.raises(InvalidInputError, match="has more than 0 MB; use a smaller copy"):
            load_image(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/a.png",
        "http://localhost/a.png",
        "http://2130706433/a.png",  # 127.0.0.1 as one number
        "http://0.0.0.0/a.png",
        "http://10.1.2.3/a.png",
        "http://192.168.0.1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://[64:ff9b::7f00:1]/a.png",
        "https://[fd00::1]/a.png",
    ],
)
def test_a_private_server_is_refused_where_only_public_ones_may_be_read(address: str) -> None:
    with pytest.raises(InvalidInputError, match=r"in a private network.*upload the image instead"):
        read_address(address, public_only=True)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "memory://a.png", "/etc/passwd", "ftp://a/b.png"])
def test_other_kinds_of_addresses_are_refused_where_only_public_servers_may_be_read(address: str) -> None:
    with pytest.raises(InvalidInputError, match="Expected an address with http"):
        read_address(address, public_only=True)


def test_a_public_server_may_not_redirect_to_a_private_one(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_is_public", lambda address: address == "127.0.0.1")
    assert read_address(f"{server}/moved.png", public_only=True) == _png()
    with pytest.raises(InvalidInputError, match=r"127\.0\.0\.2 is in a private network"):
        read_address(f"{server}/inside.png", public_only=True)


def test_a_name_is_resolved_once_so_that_it_cannot_change_after_the_check(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, port = socket.getaddrinfo, int(server.rpartition(":")[2])
    names: list[object] = []

    def getaddrinfo(host: object, *arguments: Any, **options: Any) -> Any:
        names.append(host)
        return resolve("127.0.0.1" if host == "pictures.test" else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(addresses, "_is_public", lambda address: True)
    assert read_address(f"http://pictures.test:{port}/a.png", public_only=True) == _png()
    assert names.count("pictures.test") == 1


def test_endless_redirects_and_redirects_to_files_are_refused(server: str) -> None:
    with pytest.raises(InvalidInputError, match="redirects more than 5 times"):
        load_image(f"{server}/circle.png")
    with pytest.raises(InvalidInputError, match="which is not a web address"):
        load_image(f"{server}/file.png")


def _in_memory() -> str:
    import fsspec

    with fsspec.open("memory://pictures/a.png", "wb") as file:
        file.write(_png())
    return "memory://pictures/a.png"


def test_an_image_is_read_from_any_file_system_that_fsspec_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_image(_in_memory())[1, 2].tolist() == [10, 20, 30]
    for address in ("memory://pictures/none.png", "nosuchthing://a.png"):
        with pytest.raises(InvalidInputError, match=f"{address} cannot be read"):
            load_image(address)
    monkeypatch.setitem(sys.modules, "fsspec", None)  # what `import` takes for a package that is missing
    with pytest.raises(MissingDependencyError, match="pip install fsspec"):
        load_image("memory://pictures/a.png")
