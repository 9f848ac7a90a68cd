"""Errors as RFC 9457 problem details: one shape, whatever went wrong and wherever."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from blemish.errors import BlemishError
from blemish.station.errors import (
    BusyError,
    ConflictError,
    LateError,
    NotAllowedError,
    RefusedError,
    ReusedKeyError,
    StationError,
    StoreError,
    StoreUnreachableError,
    UnknownError,
)

log = logging.getLogger("blemish.station")

MEDIA = "application/problem+json"
RETRY_AFTER = 2  # s, where the store does not answer

# The most special first.
_STATUS: tuple[tuple[type[BlemishError], int], ...] = (
    (UnknownError, 404),
    (RefusedError, 409),
    (ConflictError, 409),
    (ReusedKeyError, 422),
    (NotAllowedError, 403),
    (LateError, 503),
    (BusyError, 429),
    (StoreUnreachableError, 503),
    (StoreError, 507),
    (StationError, 422),
    (BlemishError, 422),
)


class Problem(BaseModel):
    """RFC 9457: `type` names the kind of problem, `detail` says what, where and what to do."""

    type: str = Field(examples=["urn:blemish:problem:unknown"])
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[dict[str, Any]] | None = Field(
        default=None, description="Each field that is wrong: where it is, and what is wrong."
    )


class UnauthorizedError(StationError):
    """Nobody knows who asks."""

    code = "unauthorized"


class TooLargeError(StationError):
    """The request has more bytes than the station takes."""

    code = "too_large"


class TooSlowError(StationError):
    """The request does not come on."""

    code = "too_slow"


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> JSONResponse:
    """The response that tells of a problem."""
    body = Problem(
        type=f"urn:blemish:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        errors=errors,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, media_type=MEDIA)


def of_error(request: Request, error: BlemishError) -> JSONResponse:
    """The response for an error of ours."""
    headers: dict[str, str] = {}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
        return problem(request, 401, error.code, str(error), headers=headers)
    if isinstance(error, TooLargeError | TooSlowError):
        status = 413 if isinstance(error, TooLargeError) else 408
        return problem(request, status, error.code, str(error))
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif status == 503:
        headers["Retry-After"] = str(RETRY_AFTER)
    return problem(request, status, error.code, str(error), headers=headers)


def install(app: FastAPI) -> None:
    """Let every error of the application become a problem."""

    @app.exception_handler(BlemishError)
    async def _ours(request: Request, error: BlemishError) -> Response:
        return of_error(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"where": ".".join(str(part) for part in one["loc"]), "what": one["msg"]}
            for one in error.errors()
        ]
        detail = f"{errors[0]['where']}: {errors[0]['what']}" if errors else "the request is wrong"
        return problem(request, 422, "invalid", detail, errors=errors)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        headers = dict(error.headers or {})
        return problem(request, error.status_code, code, str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        reference = uuid4().hex[:12]
        log.error("error %s at %s", reference, request.url.path, exc_info=error)
        detail = (
            f"Something went wrong here that is not yours to mend; the log has it as {reference}."
        )
        return problem(request, 500, "internal", detail)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is told of the problems that a route can answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
