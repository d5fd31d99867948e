"""Reading of images from http(s) addresses and from remote file systems (fsspec)."""

from __future__ import annotations

import time

from mdetr.errors import InvalidInputError, MissingDependencyError

MAX_BYTES = 100_000_000
MAX_SECONDS = 60.0
"""Time limit for downloading an image from the web."""

_SILENCE_TIMEOUT = 10.0  # seconds without any data from the server


def read_address(address: str) -> bytes:
    """Read the file at an address.

    Args:
        address: For example "https://example.com/cat.jpg", or an address that fsspec can open, such as
            "s3://bucket/cat.jpg".

    Returns:
        The content, at most `MAX_BYTES`.

    Raises:
        InvalidInputError: The file does not exist, cannot be reached, is too large, or takes too long.
        MissingDependencyError: The address needs fsspec, which is not installed.
    """
    if address.lower().startswith(("http://", "https://")):
        return _read_web(address)
    return _read_file_system(address)


def _read_web(address: str) -> bytes:
    import httpx

    end = time.monotonic() + MAX_SECONDS
    content = bytearray()
    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=_SILENCE_TIMEOUT) as response:
            if not response.is_success:
                raise InvalidInputError(
                    f"There is no image at {address}: the server returned {response.status_code}; check the "
                    "address."
                )
            for part in response.iter_bytes():
                content += part
                if len(content) > MAX_BYTES:
                    raise InvalidInputError(_too_large(address))
                if time.monotonic() > end:
                    raise InvalidInputError(
                        f"{address} took longer than {MAX_SECONDS:.0f} s; download it and give its path."
                    )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise InvalidInputError(
            f"{address} cannot be reached ({error or type(error).__name__}); check the address and the "
            "network, or give the path of a file."
        ) from None
    return bytes(content)


def _read_file_system(address: str) -> bytes:
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError(
            f"Reading {address} needs the package fsspec; install it with `pip install fsspec`, or give the "
            "path of a file."
        ) from None
    try:
        with fsspec.open(address, "rb") as file:
            content: bytes = file.read(MAX_BYTES + 1)
    except Exception as error:  # every file system raises its own exceptions
        raise InvalidInputError(
            f"{address} cannot be read ({error or type(error).__name__}); check the address, or give the "
            "path of a file."
        ) from None
    if len(content) > MAX_BYTES:
        raise InvalidInputError(_too_large(address))
    return content


def _too_large(address: str) -> str:
    return f"The file at {address} has more than {MAX_BYTES / 1e6:.0f} MB; download it and give its path."
