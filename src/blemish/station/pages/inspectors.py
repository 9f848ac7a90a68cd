"""Inspectors: what is live, its templates, how it came to be, and the way back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from blemish.station.api.access import Engineer, Here, Viewer
from blemish.station.api.schemas import Id, InspectorName
from blemish.station.pages.counting import last_day
from blemish.station.pages.rendering import go, page, path

router = APIRouter()

Note = Annotated[str, Form(max_length=2000)]


@router.get("/inspectors")
def inspectors_page(request: Request, station: Here, person: Viewer) -> Response:
    """Every inspector, and the bundles that cannot be used."""
    held = [(one, last_day(station.database, one.name)) for one in station.shelf.held]
    return page(
        request, person, "inspectors.html", held=held, broken=station.shelf.broken,
        folder=station.settings.bundles,
    )  # fmt: skip


@router.get("/inspectors/{name}")
def inspector_page(
    request: Request, station: Here, person: Viewer, name: InspectorName
) -> Response:
    """One inspector."""
    held = station.shelf.get(name)
    return page(
        request, person, "inspector.html", held=held, live=held.live,
        calibration=held.inspector.calibration, templates=held.inspector.templates,
        detection=held.inspector.detection,
        history=held.inspector.history[::-1], changes=station.reviewing.changes(name, 30),
        regression=station.reviewing.regression(name), counted=last_day(station.database, name),
    )  # fmt: skip


@router.post("/inspectors/{name}/rollback")
def roll_back(
    request: Request,
    station: Here,
    person: Engineer,
    name: InspectorName,
    version: Annotated[int, Form(ge=1, le=2**31 - 1)],
    note: Note = "",
    force: Annotated[bool, Form()] = False,
) -> Response:
    """Bring an older version back, as a new one."""
    station.reviewing.roll_back(name, version, person, note, force=force)
    return go(request, f"/inspectors/{path(name)}", "rollback")


@router.post("/inspectors/{name}/regression/{id}/remove")
def forget(
    request: Request, station: Here, person: Engineer, name: InspectorName, id: Id
) -> Response:
    """Take a part out of the regression set."""
    station.reviewing.forget_regression(id, person)
    return go(request, f"/inspectors/{path(name)}", "forgotten")
