"""Images of requests: uploads, base64, and addresses."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Mapping

from mdetr.errors import InvalidInputError
from mdetr.files import is_data_address
from mdetr.processing.addresses import read_address
from mdetr.processing.images import decode_data_address, image_size
from mdetr.server.config import ServerConfig


async def read_image(image: str | bytes | None, address: str | None, config: ServerConfig) -> bytes:
    """Read the image of a request, and check its size.

    Args:
        image: An uploaded file, or the file in base64 or as a data: URL.
        address: An http(s) address, instead of `image`.
        config: Settings of the server.

    Returns:
        The content of the file; its header is that of an image within the limits.

    Raises:
        InvalidInputError: There is no image or there are two, or it cannot be read or is too large.
    """
    # Exactly one of them has to be there
    if (image is None) == (address is None):
        given = "neither" if image is None else "both"
        raise InvalidInputError(f"Expected an image in either image or image_url, got {given}.")

    # Read the file, and check its header in a thread, because both may take a while
    if address is not None:
        content = await download(address, config)
    else:
        content = image if isinstance(image, bytes) else decode_base64(str(image))
    await asyncio.to_thread(check_image, content, config.limits.max_pixels)
    return content


async def download(
    address: str, config: ServerConfig, is_trusted: bool = False, headers: Mapping[str, str] | None = None
) -> bytes:
    """Read a file from an address.

    Args:
        address: An http(s) address.
        config: Settings of the server.
        is_trusted: Whether the address may be in a private network whatever the settings are.
        headers: Headers for its server.

    Returns:
        The content of the file.

    Raises:
        InvalidInputError: The address cannot be read, or is in a private network, which the settings refuse.
    """
    address = address.strip()
    if not address.lower().startswith(("http://", "https://")):
        raise InvalidInputError(f"Expected an address with http:// or https://, got {address[:100]!r}.")
    read = functools.partial(
        read_address,
        address,
        public_only=not (config.private_addresses or is_trusted),
        max_bytes=config.limits.max_bytes,
        max_seconds=config.limits.seconds,
        headers=headers,
    )
    return await asyncio.to_thread(read)


def decode_base64(text: str) -> bytes:
    """Decode an image in base64, or a data: URL.

    Args:
        text: The text; line breaks in it do not matter.

    Returns:
        The content of the file.

    Raises:
        InvalidInputError: It is not base64.
    """
    if is_data_address(text):
        return decode_data_address(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise InvalidInputError(
            "The field image is not valid base64; send the image file in it, or an address in image_url."
        ) from None


def check_image(content: bytes, max_pixels: int) -> None:
    """Check by its header that an image is within the limits.

    Args:
        content: Content of the file.
        max_pixels: Maximum number of pixels.

    Raises:
        InvalidInputError: The file is not an image, or has too many pixels.
    """
    height, width = image_size(content)
    if width * height > max_pixels:
        raise InvalidInputError(
            f"Expected an image of at most {max_pixels / 1e6:g} million pixels, got {width} x {height}; make "
            "it smaller."
        )
