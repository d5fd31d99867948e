"""Routes of an ML backend of Label Studio.

Source: https://labelstud.io/guide/ml_create
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from mdetr.checkpoints.registry import Task
from mdetr.errors import InvalidInputError, MdetrError
from mdetr.inference.queries import Query
from mdetr.label_studio.config import LabelConfig, parse_label_config
from mdetr.label_studio.regions import make_prediction
from mdetr.server.bodies import read_json, validate
from mdetr.server.config import ServerConfig
from mdetr.server.jobs import Job
from mdetr.server.label_images import LabelImages
from mdetr.server.routes import Service, within

MAX_TASKS = 1000  # tasks of a request
_EMPTY_CONFIG = re.compile(r"\s*(<View\s*/>|<View>\s*</View>)?\s*")

logger = logging.getLogger(__name__)


class SetupRequest(BaseModel):
    """What Label Studio sends when a project is connected or its labeling configuration changes."""

    project: str | int | None = None
    schema_: str = Field("", alias="schema")


class LabelTask(BaseModel):
    """A task of a project."""

    id: int | str | None = None
    data: dict[str, Any]


class PredictRequest(BaseModel):
    """What Label Studio sends to get predictions for tasks."""

    tasks: list[LabelTask] = Field(max_length=MAX_TASKS)
    label_config: str
    project: str | int | None = None


def label_studio_router(service: Service) -> APIRouter:
    """Make the routes that Label Studio calls.

    Args:
        service: What the routes share.

    Returns:
        A router with /health, /setup, /predict, /webhook, /train, /versions and /metrics.
    """
    router = APIRouter(tags=["Label Studio"])
    version = service.config.model
    images = LabelImages(service.config)

    @router.get("")
    @router.get("/")
    @router.get("/health")
    async def label_studio_health() -> dict[str, Any]:
        return {"status": "UP", "model_class": "mdetr", "model_version": version}

    @router.post("/setup", openapi_extra=_describe(SetupRequest))
    async def label_studio_setup(request: Request) -> dict[str, Any]:
        body = validate(SetupRequest, await _read(request, service.config))
        if not _EMPTY_CONFIG.fullmatch(body.schema_):  # as that of a new project is
            parse_label_config(body.schema_)
        return {"model_version": version}

    @router.post("/predict", openapi_extra=_describe(PredictRequest))
    async def label_studio_predict(request: Request) -> dict[str, Any]:
        body = validate(PredictRequest, await _read(request, service.config))
        config = parse_label_config(body.label_config)
        slots = asyncio.Semaphore(2 * service.config.batch_size)

        async def predict(task: LabelTask) -> dict[str, Any] | MdetrError:
            async with slots:  # a request with many tasks leaves room for others
                return await _predict(service, images, config, task)

        results = await asyncio.gather(*map(predict, body.tasks))

        # A task that fails has an empty prediction, unless all tasks fail
        errors = [error for error in results if isinstance(error, MdetrError)]
        if errors and len(errors) == len(results):
            raise errors[0]
        predictions: list[dict[str, Any]] = []
        for task, result in zip(body.tasks, results, strict=True):
            if isinstance(result, MdetrError):
                logger.warning("Label Studio's task %s has no prediction: %s", task.id, result)
                result = {"result": [], "score": 0.0, "model_version": version, "error": str(result)}
            predictions.append(result)
        return {"results": predictions, "model_version": version}

    @router.post("/versions")
    async def label_studio_versions() -> dict[str, Any]:
        return {"versions": [version]}

    @router.post("/webhook", status_code=HTTPStatus.CREATED)
    @router.post("/train", status_code=HTTPStatus.CREATED)
    async def label_studio_training() -> dict[str, Any]:
        return {"detail": "This server does not train; export the project, and see mdetr train --help."}

    @router.get("/metrics")
    async def label_studio_metrics() -> dict[str, Any]:
        return {}

    return router


async def _read(request: Request, config: ServerConfig) -> dict[str, Any]:
    seconds = config.limits.seconds
    return await within(
        read_json(request),
        seconds,
        HTTPStatus.REQUEST_TIMEOUT,
        f"The request was not complete within {seconds:g} s; send it again.",
    )


async def _predict(
    service: Service, images: LabelImages, config: LabelConfig, task: LabelTask
) -> dict[str, Any] | MdetrError:
    """Predict for a task; an error is returned, for the other tasks of the request."""
    try:
        query = _make_query(config, task.data)
        if query is None:  # a task without a text has nothing to ground
            return {"result": [], "score": 0.0, "model_version": service.config.model}
        service.check_query(query)
        content = await images.read(task.data, config.image_field)
        result = await service.predict(Job(query, content, config.threshold, labels=config.names_and_labels))
    except MdetrError as error:
        return error
    except HTTPException as error:
        return MdetrError(str(error.detail))
    return make_prediction(config, result, service.config.model)


def _make_query(config: LabelConfig, data: Mapping[str, Any]) -> Query | None:
    """Ground the text of a task, or detect the labels in a project without a text."""
    if config.text_field is None:
        return Query(Task.DETECTION, names=config.class_names)
    text = data.get(config.text_field)
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    if not isinstance(text, str):
        raise InvalidInputError(f"Expected a text in the field {config.text_field} of the task's data.")
    return Query(Task.GROUNDING, text)


def _describe(schema: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
