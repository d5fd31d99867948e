"""Reading of images from http(s) addresses and from remote file systems (fsspec)."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mdetr.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 100_000_000
MAX_SECONDS = 60.0
"""Time limit for downloading an image from the web."""

_MAX_REDIRECTS = 5
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv6 addresses that stand for IPv4 ones (RFC 6052)
_SILENCE_TIMEOUT = 10.0  # seconds without any data from the server


def read_address(
    address: str,
    public_only: bool = False,
    max_bytes: int | None = None,
    max_seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Read the file at an address.

    Args:
        address: For example "https://example.com/cat.jpg", or an address that fsspec can open, such as
            "s3://bucket/cat.jpg".
        public_only: Whether to read from public web servers only. Programs that read addresses on behalf of
            others need this, since this machine may reach servers that the others may not.
        max_bytes: Maximum size of the file, in bytes; `MAX_BYTES` if None.
        max_seconds: Time limit for a download from the web, in seconds; `MAX_SECONDS` if None.
        headers: Headers for a web server, such as a token; after a redirect to another server they are not
            sent.

    Returns:
        The content.

    Raises:
        InvalidInputError: The file does not exist, cannot be reached, is too large, or takes too long; or the
            address is not that of a public web server, and `public_only` is set.
        MissingDependencyError: The address needs fsspec, which is not installed.
    """
    max_bytes = MAX_BYTES if max_bytes is None else max_bytes
    max_seconds = MAX_SECONDS if max_seconds is None else max_seconds
    if address.lower().startswith(("http://", "https://")):
        return _read_web(address, public_only, max_bytes, max_seconds, headers or {})
    if public_only:
        raise InvalidInputError(f"Expected an address with http:// or https://, got {address}.")
    return _read_file_system(address, max_bytes)


def _read_web(
    address: str, public_only: bool, max_bytes: int, max_seconds: float, headers: Mapping[str, str]
) -> bytes:
    """Download a file, following redirects; with `public_only`, every server on the way is checked."""
    import httpx

    end = time.monotonic() + max_seconds
    content = bytearray()
    try:
        url = first = httpx.URL(address)
        with httpx.Client(timeout=_SILENCE_TIMEOUT) as client:
            for _ in range(_MAX_REDIRECTS + 1):
                request = _public_request(client, url) if public_only else client.build_request("GET", url)
                if (url.scheme, url.netloc) == (first.scheme, first.netloc):
                    request.headers.update(headers)
                response = client.send(request, stream=True)
                try:
                    if response.has_redirect_location:
                        url = url.join(response.headers["location"])
                        if url.scheme not in ("http", "https"):
                            raise InvalidInputError(
                                f"{address} redirects to {url}, which is not a web address."
                            )
                        continue
                    if not response.is_success:
                        raise InvalidInputError(
                            f"There is no image at {address}: the server returned {response.status_code}; "
                            "check the address."
                        )
                    for part in response.iter_bytes():
                        content += part
                        if len(content) > max_bytes:
                            raise InvalidInputError(_too_large(address, max_bytes))
                        if time.monotonic() > end:
                            raise InvalidInputError(
                                f"{address} took longer than {max_seconds:g} s; use a copy of the image."
                            )
                    return bytes(content)
                finally:
                    response.close()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        # Python encodes the name of a server as IDNA, which fails for empty and for very long parts
        reason = "no valid name of a server" if isinstance(error, UnicodeError) else error
        raise InvalidInputError(
            f"{address} cannot be reached ({reason or type(error).__name__}); check the address and the "
            "network, or use a copy of the image."
        ) from None
    raise InvalidInputError(f"{address} redirects more than {_MAX_REDIRECTS} times; give the final address.")


def _public_request(client: httpx.Client, url: httpx.URL) -> httpx.Request:
    """Make a request to a server outside this machine and its network.

    The request goes to the IP address that was checked, because the name may resolve to another one later.

    Args:
        client: The client.
        url: Address of the file.

    Returns:
        The request.

    Raises:
        InvalidInputError: The name of the server resolves to an address that is not public.
    """
    resolved = socket.getaddrinfo(url.host, url.port or None, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]).partition("%")[0] for entry in resolved]
    for address in addresses:
        if not _is_public(address):
            raise InvalidInputError(
                f"The server {url.host} is in a private network, which may not be read from here; upload the "
                "image instead."
            )
    host = url.netloc.decode("ascii")
    pinned = url.copy_with(host=addresses[0])
    return client.build_request("GET", pinned, headers={"Host": host}, extensions={"sni_hostname": url.host})


def _is_public(address: str) -> bool:
    """Return whether an IP address is that of a public server; IPv4 addresses within IPv6 ones count too."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


def _read_file_system(address: str, max_bytes: int) -> bytes:
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError(
            f"Reading {address} needs the package fsspec; install it with `pip install fsspec`, or give the "
            "path of a file."
        ) from None
    try:
        with fsspec.open(address, "rb") as file:
            content: bytes = file.read(max_bytes + 1)
    except Exception as error:  # every file system raises its own exceptions
        raise InvalidInputError(
            f"{address} cannot be read ({error or type(error).__name__}); check the address, or give the "
            "path of a file."
        ) from None
    if len(content) > max_bytes:
        raise InvalidInputError(_too_large(address, max_bytes))
    return content


def _too_large(address: str, max_bytes: int) -> str:
    return f"The file at {address} has more than {max_bytes / 1e6:.0f} MB; use a smaller copy."
