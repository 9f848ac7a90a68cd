"""Parts proposed as templates: a second person approves them, or not."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from blemish.station.api.access import Engineer, Here, Operator, Viewer
from blemish.station.api.schemas import Id
from blemish.station.core import Station
from blemish.station.errors import RefusedError
from blemish.station.pages import records
from blemish.station.pages.rendering import by_htmx, fragment, go, page
from blemish.station.people import Person
from blemish.station.store.inspections import several
from blemish.station.store.tables import CandidateRow

router = APIRouter()

DECIDED = 20  # that are shown below those that wait

Note = Annotated[str, Form(max_length=2000)]


@router.get("/candidates")
def candidates_page(request: Request, station: Here, person: Viewer) -> Response:
    """Those that wait, oldest first, and the last that were decided."""
    waiting = station.reviewing.candidates("waiting")
    decided = [row for row in station.reviewing.candidates() if row.state != "waiting"][:DECIDED]
    return page(
        request, person, "candidates.html",
        open_=_told(station, waiting), decided=_told(station, decided),
    )  # fmt: skip


@router.post("/candidates/{id}/approve")
def approve(
    request: Request,
    station: Here,
    person: Engineer,
    id: Id,
    note: Note = "",
    force: Annotated[bool, Form()] = False,
) -> Response:
    """Make it a template of the next version."""
    try:
        station.reviewing.approve(id, person, note, force=force)
    except RefusedError as error:
        if not by_htmx(request):
            raise
        return _card(station, person, id, refused=str(error))
    return _done(request, station, person, id, "approved")


@router.post("/candidates/{id}/reject")
def reject(request: Request, station: Here, person: Operator, id: Id, note: Note = "") -> Response:
    """Leave it out."""
    station.reviewing.reject(id, person, note)
    return _done(request, station, person, id, "rejected")


def _done(request: Request, station: Station, person: Person, key: str, what: str) -> Response:
    if by_htmx(request):
        return _card(station, person, key)
    return go(request, "/candidates", what)


def _card(station: Station, person: Person, key: str, refused: str | None = None) -> Response:
    [told] = _told(station, [station.reviewing.candidate(key)])
    return fragment("_candidate.html", person, one=told, refused=refused)


def _told(station: Station, rows: list[CandidateRow]) -> list[dict[str, Any]]:
    parts = several(station.database, {row.inspection_id for row in rows})
    return [
        {
            "row": row,
            "part": parts[row.inspection_id],
            "change": records.change_of(station.database, row),
        }
        for row in rows
    ]
