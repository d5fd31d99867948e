"""Bodies of requests: JSON, or forms with an uploaded file."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException

from mdetr.server.schemas import ImageRequest

MULTIPART = "multipart/form-data"

B = TypeVar("B", bound=BaseModel)


async def read_body(request: Request, schema: type[ImageRequest]) -> tuple[ImageRequest, str | bytes | None]:
    """Read the body of a request, in JSON or as a form.

    Args:
        request: The request.
        schema: Fields of the body.

    Returns:
        The fields, and the image if it is not at an address: an upload, or the text of the field `image`.

    Raises:
        HTTPException: The body has another type, is no valid JSON or form, or its fields are invalid.
    """
    # Read the fields and the upload
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload: bytes | None = None
    if kind == "application/json":
        fields = await read_json(request)
    elif kind == MULTIPART:
        fields, upload = await _read_form(request)
    else:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Expected a body of the type {MULTIPART} (curl -F) or application/json, got {kind or 'none'}.",
        )

    # Check the fields
    body = validate(schema, fields)
    return body, body.image if upload is None else upload


async def read_json(request: Request) -> dict[str, Any]:
    """Read a body in JSON.

    Args:
        request: The request.

    Returns:
        The object.

    Raises:
        HTTPException: The body is not valid JSON, or no object.
    """
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        if isinstance(error, UnicodeError):
            reason = "it is not UTF-8"
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, f"The body is not valid JSON ({reason}); send an object with fields."
        ) from None
    if not isinstance(fields, dict):
        raise HTTPException(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            'The body is JSON, but no object; send one such as {"image": "...", "text": "..."}.',
        )
    return fields


async def _read_form(request: Request) -> tuple[dict[str, Any], bytes | None]:
    """Read a form, and the upload in it."""
    try:
        async with request.form(max_files=1, max_fields=1000) as form:
            file = form.get("image")
            upload = await file.read() if isinstance(file, UploadFile) else None
            return _form_fields(form), upload
    except StarletteHTTPException as error:
        if error.status_code != HTTPStatus.BAD_REQUEST:
            raise
        raise HTTPException(
            HTTPStatus.BAD_REQUEST,
            f"The form cannot be read ({str(error.detail).rstrip('.')}); send one file, in the field image, "
            "and texts in the other fields.",
        ) from None


def _form_fields(form: FormData) -> dict[str, Any]:
    """Fields of a form without its upload; class names may be repeated fields, or separated by commas."""
    fields: dict[str, Any] = {}
    for name in form:
        values = [value for value in form.getlist(name) if isinstance(value, str)]
        if name == "names":
            parts = [part.strip() for value in values for part in value.split(",")]
            fields[name] = [part for part in parts if part]
        elif values:
            fields[name] = values[-1]
    return fields


def validate(schema: type[B], fields: dict[str, Any]) -> B:
    """Check the fields of a body.

    Args:
        schema: The fields that a body may have.
        fields: Those of the request.

    Returns:
        The body.

    Raises:
        HTTPException: A field is missing, unknown or invalid; the sentence is about the first of them.
    """
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        sentence = f"The field {name} is missing."
    elif first["type"] == "extra_forbidden":
        sentence = f"There is no field {name}; expected some of {', '.join(schema.model_fields)}."
    else:
        sentence = f"The field {name} is invalid: {first['msg'][0].lower()}{first['msg'][1:]}."
    raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, sentence)
