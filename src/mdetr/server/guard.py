"""What every request passes before it reaches a route: token, rate, number of requests, and size."""

from __future__ import annotations

import base64
import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdetr.listening import is_loopback_name
from mdetr.server.config import Limits
from mdetr.server.metrics import Metrics

OPEN_PATHS = ("/health",)  # for probes, which have no token and may come often
MAX_CLIENTS = 10_000


class RateLimiter:
    """Limits the requests of each client: a bucket of tokens that refills steadily.

    Args:
        per_minute: Number of requests of a client in a minute, and the most at once.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when

    def wait_seconds(self, client: str, now: float) -> float:
        """Take a token of a client.

        Args:
            client: Address of the client.
            now: The time in seconds, of a clock that never goes back.

        Returns:
            0 if there was a token, or else the time until there will be one, in seconds.
        """
        # Refill the bucket for the time since the last request
        tokens, last = self._buckets.pop(client, (float(self._per_minute), now))
        tokens = min(self._per_minute, tokens + (now - last) * self._per_minute / 60)

        # Take a token, and forget the client that has been silent longest if there are too many
        is_allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if is_allowed else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - tokens) * 60 / self._per_minute


class Guard:
    """ASGI middleware that refuses requests beyond the limits, and counts all requests.

    Args:
        app: The application.
        limits: Limits of a request.
        token: What clients have to send; None to serve everybody.
        metrics: Where requests are counted.
        loopback_names: Whether to refuse clients that call this machine by another name than its own: the
            page of a stranger reaches a server through a name that resolves to this machine.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        token: str | None,
        metrics: Metrics,
        loopback_names: bool = False,
    ) -> None:
        self._app = app
        self._limits = limits
        self._token = token
        self._metrics = metrics
        self._loopback_names = loopback_names
        self._rate = None if limits.requests_per_minute is None else RateLimiter(limits.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by the application or by a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        # Note the status of the response
        start, status = time.monotonic(), HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Answer, and count the request; the application has set its route meanwhile
        refusal = self._refuse(scope)
        self._metrics.in_progress += 1
        try:
            if refusal is not None:
                await refusal(scope, receive, send_and_note)
            else:
                await self._app(scope, self._limit_size(receive), send_and_note)
        finally:
            self._metrics.in_progress -= 1
            path = _route_path(scope)
            self._metrics.count_request(path, status, time.monotonic() - start)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        """Make the response to a request that is refused; None if it is allowed."""
        # Check the name of the server
        headers = Headers(scope=scope)
        if self._loopback_names and not is_loopback_name(headers.get("host")):
            return refusal(
                HTTPStatus.BAD_REQUEST,
                "The server answers only to localhost and 127.0.0.1; use one of them in the address, and in "
                "the header Host that a proxy sends.",
            )
        if scope["path"] in OPEN_PATHS:
            return None

        # Check the rate of the client, so that tokens cannot be guessed fast, and then the token
        if self._rate is not None:
            client = scope["client"][0] if scope.get("client") else ""
            wait = self._rate.wait_seconds(client, time.monotonic())
            if wait > 0:
                return refusal(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"Expected at most {self._limits.requests_per_minute} requests a minute; wait and "
                    "send the request again.",
                    {"Retry-After": str(int(wait) + 1)},
                )
        if self._token is not None and not has_token(headers, self._token):
            # A browser asks for a password if the server offers basic authentication; programs must not
            schemes = 'Basic realm="mdetr", Bearer' if scope["method"] == "GET" else "Bearer"
            return refusal(
                HTTPStatus.UNAUTHORIZED,
                "The token is missing or wrong; send the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": schemes},
            )

        # Check the number of requests, and the size
        if scope["method"] == "POST" and self._metrics.in_progress >= self._limits.max_waiting:
            return refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The server is busy with {self._metrics.in_progress} requests; try again later.",
                {"Retry-After": "1"},
            )
        length = headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and int(length) > self._limits.max_bytes:
            return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
        return None

    def _limit_size(self, receive: Receive) -> Receive:
        """Limit the size of a body of unknown length."""
        size = 0

        async def receive_part() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limits.max_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
            return message

        return receive_part

    @property
    def _too_large(self) -> str:
        return (
            f"The request has more than {self._limits.max_bytes / 1e6:g} MB; send a "
            "smaller image, or one that is compressed more."
        )


def _route_path(scope: Scope) -> str:
    """Path for the metrics: that of a route, because requests with other paths may add no metrics."""
    if "route" in scope:  # set by the application, unless the request was refused before
        return getattr(scope["route"], "path", "other")
    path: str = scope["path"]
    paths = scope["app"].openapi()["paths"] if "app" in scope else {}
    return path if path in paths else "other"


def has_token(headers: Headers, token: str) -> bool:
    """Return whether a request has the token, as a bearer token or as the password of basic authentication.

    Label Studio sends the latter.

    Args:
        headers: Headers of the request.
        token: The token of the server.

    Returns:
        Whether they are equal; the time of the comparison does not tell how much of them is.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode("utf-8"))


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the response to a request that is refused.

    Args:
        status: Status of the response.
        sentence: One sentence that says why, and what to do.
        headers: Additional headers.

    Returns:
        The response, whose body is {"detail": sentence}.
    """
    return JSONResponse({"detail": sentence}, status, headers)
