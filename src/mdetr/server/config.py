"""Settings of the server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from mdetr.errors import InvalidInputError

TOKEN_VARIABLE = "MDETR_TOKEN"
LABEL_STUDIO_URL, LABEL_STUDIO_KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        max_bytes: Maximum size of a body, and of an image that is read from an address, in bytes.
        max_pixels: Maximum number of pixels of an image.
        seconds: Maximum time for receiving a request, and for answering it, in seconds.
        requests_per_minute: Maximum number of requests of a client; None for no limit.
        max_waiting: Maximum number of requests that are processed or wait for it.
    """

    max_bytes: int = 32_000_000
    max_pixels: int = 50_000_000
    seconds: float = 60.0
    requests_per_minute: int | None = None
    max_waiting: int = 64


@dataclass(frozen=True)
class LabelStudioHost:
    """The Label Studio whose uploaded files the server may read.

    Attributes:
        url: Its address, such as "http://localhost:8080".
        key: Access token of a user of it, which is sent to this address only.
    """

    url: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the server.

    Attributes:
        model: Name of the model, as for `Mdetr.from_pretrained`.
        device: Device to run on; None for a GPU if there is one.
        batch_size: Maximum number of requests that the model processes at once.
        cached_images: Number of encoded images that are kept in memory.
        private_addresses: Whether images may be read from addresses in private networks.
        limits: Limits of a request.
        token: What clients have to send as a bearer token; None to serve everybody.
        label_studio: The Label Studio whose uploaded files the server may read.
    """

    model: str = "photo-tiny"
    device: str | None = None
    batch_size: int = 8
    cached_images: int = 64
    private_addresses: bool = False
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    label_studio: LabelStudioHost | None = None


def read_token(file: Path | None) -> str | None:
    """Read the token that clients have to send.

    Args:
        file: File with the token; if None, the variable `MDETR_TOKEN` of the environment counts.

    Returns:
        The token, or None if there is neither a file nor the variable.

    Raises:
        InvalidInputError: The file cannot be read, or the token is empty or not plain ASCII without spaces.
    """
    # Read the token
    if file is None:
        token, source = os.environ.get(TOKEN_VARIABLE), f"the variable {TOKEN_VARIABLE}"
        if token is None:
            return None
    else:
        source = str(file)
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"The token in {file} cannot be read ({error}); check the path."
            ) from None

    # Check that a header can hold it
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInputError(
            f"Expected a token of printable ASCII characters without spaces in {source}; make one with "
            "`openssl rand -hex 32`."
        )
    return token


def find_label_studio() -> LabelStudioHost | None:
    """Read the address of Label Studio and its access token from the variables that its own tools read."""
    url = os.environ.get(LABEL_STUDIO_URL)
    return LabelStudioHost(url.rstrip("/"), os.environ.get(LABEL_STUDIO_KEY)) if url else None
