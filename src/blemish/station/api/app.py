"""The application: the API, the pages, and what stands before both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import Scope

from blemish._version import __version__
from blemish.station import pages
from blemish.station.api import health, inspections, inspectors, problems, records, review, tokens
from blemish.station.api.limits import CarefulHeaders, KnownHost, LimitedBody
from blemish.station.core import Station, is_loopback
from blemish.station.results import API

ABOUT = """
Send images of parts, get verdicts; look them up; review, approve templates, set thresholds.

Errors are problem details (RFC 9457, `application/problem+json`). Where more parts come than can be
inspected the answer is 429 with `Retry-After`: send the same request again, with the same
`Idempotency-Key`, and no part is recorded twice. Times are ISO 8601 in UTC.
"""


def create_app(station: Station, *, manage: bool = True) -> FastAPI:
    """The application of a station, which it starts and stops unless told not to (`manage`)."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if manage:
            await run_sync(station.start)
        try:
            yield
        finally:
            if manage:
                await run_sync(station.stop)

    app = FastAPI(
        title="Blemish station",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,  # the usual pages load from elsewhere; pages/ has one that does not
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.station = station
    problems.install(app)
    for module in (inspections, inspectors, review, records, tokens):
        app.include_router(module.router, prefix=API)
    app.include_router(health.router)
    pages.mount(app, station)
    _describe(app)
    _stand_before(app, station)
    return app


def _stand_before(app: FastAPI, station: Station) -> None:
    limits, settings = station.settings.limits, station.settings
    image = int(limits.upload_mib * 2**20)

    def most(scope: Scope) -> int:
        many = scope["path"].endswith(("/batch", "/updates"))
        return (image * limits.batch if many else image) + 2**20  # and what else is in the form

    app.add_middleware(LimitedBody, limit=most, patience=limits.timeout_s)
    app.add_middleware(CarefulHeaders)
    if is_loopback(settings.host):
        allowed = ["localhost", "127.0.0.1", "[::1]", settings.host, *settings.hosts]
        app.add_middleware(KnownHost, hosts=allowed)


def _describe(app: FastAPI) -> None:
    """Add the schema of problems, which no route returns by itself, to the description."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            components["Problem"] = problems.Problem.model_json_schema()
            _answer_invalid_as_problem(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _answer_invalid_as_problem(schema: dict[str, Any]) -> None:
    reference = {"$ref": "#/components/schemas/Problem"}
    for path in schema["paths"].values():
        for operation in path.values():
            answers = operation.get("responses", {})
            if "422" in answers:
                answers["422"]["content"] = {problems.MEDIA: {"schema": reference}}
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
