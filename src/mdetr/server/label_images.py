"""Images of the tasks of Label Studio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx

from mdetr.errors import InvalidInputError
from mdetr.files import is_data_address
from mdetr.server.config import LABEL_STUDIO_KEY, LABEL_STUDIO_URL, LabelStudioHost, ServerConfig
from mdetr.server.images import check_image, decode_base64, download

_ACCESS_SECONDS = 60.0  # Label Studio's access tokens are valid for minutes


class LabelImages:
    """Reads the images of tasks: at an address, a data: URL, or a file that was uploaded to Label Studio.

    Args:
        config: Settings of the server.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._access: tuple[str, float] | None = None  # an access token, and when it was made
        self._lock = asyncio.Lock()

    async def read(self, data: Mapping[str, Any], field: str) -> bytes:
        """Read the image of a task, and check its size.

        Args:
            data: Data of the task.
            field: Field that holds the address of the image.

        Returns:
            The content of the file.

        Raises:
            InvalidInputError: The image cannot be read, or is too large.
        """
        address = data.get(field)
        if not isinstance(address, str):
            raise InvalidInputError(f"Expected an address in the field {field} of the task's data.")
        host = self._config.label_studio
        if is_data_address(address):
            content = decode_base64(address)
        elif host is not None and address.startswith(f"{host.url}/"):
            content = await self._download(address, host)
        elif not address.startswith("/"):
            content = await download(address, self._config)
        elif host is not None:
            content = await self._download(host.url + address, host)
        else:
            raise InvalidInputError(
                f"The image {address} is in Label Studio; set {LABEL_STUDIO_URL} to its address, and "
                f"{LABEL_STUDIO_KEY} to an access token, where the server is started."
            )
        await asyncio.to_thread(check_image, content, self._config.limits.max_pixels)
        return content

    async def _download(self, address: str, host: LabelStudioHost) -> bytes:
        if ".." in address.partition("?")[0].split("/"):  # the token is for its images only
            raise InvalidInputError(f"Expected the address of an image without .., got {address[:100]!r}.")
        headers = {} if host.key is None else {"Authorization": await self._authorization(host.url, host.key)}
        return await download(address, self._config, is_trusted=True, headers=headers)

    async def _authorization(self, url: str, key: str) -> str:
        """Make the header for Label Studio.

        Args:
            url: Address of Label Studio.
            key: A legacy token, which is sent as it is; or a personal access token, with which Label Studio
                makes a token for some minutes.

        Returns:
            The value of the header.

        Raises:
            InvalidInputError: Label Studio cannot be reached, or does not accept the token.
        """
        if key.count(".") != 2:  # a personal access token has three parts (JSON Web Token)
            return f"Token {key}"
        async with self._lock:
            if self._access is None or time.monotonic() > self._access[1] + _ACCESS_SECONDS:
                self._access = await _make_access_token(url, key), time.monotonic()
            return f"Bearer {self._access[0]}"


async def _make_access_token(url: str, key: str) -> str:
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            response = await client.post(f"{url}/api/token/refresh/", json={"refresh": key})
            response.raise_for_status()
            access = response.json()["access"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"Label Studio at {url} does not accept the token ({error}); check {LABEL_STUDIO_URL} and "
            f"{LABEL_STUDIO_KEY}."
        ) from None
    return str(access)
