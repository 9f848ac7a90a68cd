"""Whether it is alive, whether parts can be sent here, and figures for Prometheus."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from blemish.station.api.access import Here, needs, person_of
from blemish.station.api.problems import responses
from blemish.station.api.schemas import Ready
from blemish.station.errors import StoreError
from blemish.station.people import Person

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers; nothing else is asked."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Ready, "description": "Not ready"}})
def readyz(station: Here) -> Response:
    """Whether parts can be sent here: the store answers, and there is an inspector."""
    names = [held.name for held in station.shelf.held]
    try:
        station.database.check()
        ready = bool(names)
    except StoreError:
        ready = False
    found = Ready(
        ready=ready,
        station=station.settings.name,
        inspectors=names,
        waiting=station.inspecting.waiting,
        parts=[asdict(entry) for entry in station.health()],  # type: ignore[misc]
    )
    return JSONResponse(found.model_dump(), 200 if ready else 503)


def _may_look(request: Request, person: Annotated[Person, Depends(person_of)]) -> None:
    needs("viewer")(person)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    dependencies=[Depends(_may_look)],
    responses=responses(401, 503),
)
def metrics(station: Here) -> Response:
    """Figures of this process in the text format of Prometheus."""
    from prometheus_client import generate_latest

    return Response(
        generate_latest(station.figures.registry), media_type="text/plain; version=0.0.4"
    )
