"""Routes of the tasks: ground, refer, answer, detect and segment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from mdetr.checkpoints.abilities import check_ability
from mdetr.checkpoints.registry import Task
from mdetr.errors import InvalidInputError, MdetrError
from mdetr.inference.queries import Query
from mdetr.processing.texts import check_text
from mdetr.server.bodies import MULTIPART, read_body
from mdetr.server.config import ServerConfig
from mdetr.server.guard import refusal
from mdetr.server.images import read_image
from mdetr.server.jobs import Job, Outcome
from mdetr.server.metrics import CONTENT_TYPE, Metrics
from mdetr.server.schemas import REQUESTS, RESPONSES, DetectRequest, ErrorResponse, TextRequest
from mdetr.server.worker import JobQueue, WorkerError

SUMMARIES = {
    Task.GROUNDING: "Find the objects that a caption mentions, and the words of each",
    Task.REFERRING: "Find the one object that an expression refers to",
    Task.ANSWERING: "Answer a question",
    Task.DETECTION: "Find the objects of named classes",
    Task.SEGMENTATION: "Find the pixels that a phrase refers to",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 408, 413, 415, 422, 429, 503, 504)
}
HUNG_UP = 499
"""Status of a request that was not complete, for the metrics; a common extension of HTTP's own."""

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What the routes share.

    Attributes:
        config: Settings of the server.
        model_config: Fields of the model's configuration.
        queue: Queue of the worker.
        metrics: Metrics of the server.
    """

    config: ServerConfig
    model_config: dict[str, Any]
    queue: JobQueue
    metrics: Metrics

    async def predict(self, job: Job) -> dict[str, Any]:
        """Have the worker predict.

        Args:
            job: What to predict.

        Returns:
            The result, as its `to_dict` gives it.

        Raises:
            InvalidInputError: The image or the text cannot be used.
            HTTPException: It takes too long, or the worker died.
        """
        seconds = self.config.limits.seconds
        try:
            outcome: Outcome = await within(
                self.queue.submit(job),
                seconds,
                HTTPStatus.GATEWAY_TIMEOUT,
                f"There was no result within {seconds:g} s; send the request again later.",
            )
        except WorkerError:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The model stopped, and is started again; send the request again later.",
                {"Retry-After": "10"},
            ) from None
        self.metrics.count_outcome(outcome)
        if outcome.content is None:
            raise InvalidInputError(outcome.error)
        return outcome.content

    def check_query(self, query: Query) -> None:
        """Check what can be checked without the worker.

        Args:
            query: The query of a client.

        Raises:
            InvalidInputError: A text is empty or too long, or the model lacks the head for the task.
        """
        check_ability(self.model_config, query.task, self.config.model)
        query.check_limits()
        if query.task is not Task.DETECTION:
            check_text(query.text)


async def within(work: Awaitable[T], seconds: float, status: HTTPStatus, sentence: str) -> T:
    """Wait for something for a limited time.

    Args:
        work: What to wait for.
        seconds: The time limit.
        status: Status of the response if it takes longer.
        sentence: Sentence of that response.

    Returns:
        Its result.

    Raises:
        HTTPException: It takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise HTTPException(status, sentence) from None


def task_router(service: Service) -> APIRouter:
    """Make the routes of the tasks, and the metrics.

    Args:
        service: What the routes share.

    Returns:
        A router with a POST route for each task, and GET /metrics.
    """
    router = APIRouter(tags=["tasks"])
    for task in Task:
        router.add_api_route(
            f"/{task.command}",
            _make_endpoint(service, task),
            methods=["POST"],
            summary=SUMMARIES[task],
            name=task.command,
            operation_id=task.command,
            responses={200: {"model": RESPONSES[task]}, **ERRORS},
            openapi_extra=_describe_body(task),
        )

    @router.get("/metrics", tags=["server"], summary="Metrics in the text format of Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    return router


def _make_endpoint(service: Service, task: Task) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def endpoint(request: Request) -> JSONResponse:
        # Read the body
        seconds = service.config.limits.seconds
        body, image = await within(
            read_body(request, REQUESTS[task]),
            seconds,
            HTTPStatus.REQUEST_TIMEOUT,
            f"The request was not complete within {seconds:g} s; send it again.",
        )

        # Check the query before the image is read
        if isinstance(body, DetectRequest):
            query, max_overlap = Query(task, names=tuple(body.names)), body.max_overlap
        else:
            assert isinstance(body, TextRequest)
            query, max_overlap = Query(task, body.text), None
        service.check_query(query)

        # Read the image, and predict
        content = await read_image(image, body.image_url, service.config)
        return JSONResponse(await service.predict(Job(query, content, body.threshold, max_overlap)))

    return endpoint


def _describe_body(task: Task) -> dict[str, Any]:
    """Describe the two kinds of bodies of a task for OpenAPI."""
    schema = REQUESTS[task].model_json_schema()
    form = json.loads(json.dumps(schema))
    form["properties"]["image"] = {
        "type": "string",
        "format": "binary",
        "description": "The file of the image",
    }
    content = {"application/json": {"schema": schema}, MULTIPART: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one sentence in the field `detail`.

    Args:
        app: The application.
    """

    @app.exception_handler(MdetrError)
    async def invalid_input(_: Request, error: MdetrError) -> JSONResponse:
        return refusal(HTTPStatus.BAD_REQUEST, str(error))

    @app.exception_handler(StarletteHTTPException)
    async def other_refusals(request: Request, error: StarletteHTTPException) -> JSONResponse:
        sentence = str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            sentence = "There is no such path; see /docs or /openapi.json for those that there are."
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            sentence = f"The path does not take {request.method}; see /docs or /openapi.json."
        return refusal(error.status_code, sentence, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def hung_up(_: Request, error: ClientDisconnect) -> JSONResponse:
        return refusal(HUNG_UP, "The client hung up before the request was complete.")

    @app.exception_handler(Exception)
    async def failure(_: Request, error: Exception) -> JSONResponse:
        return refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed to answer; its log says why. Try again."
        )
