"""The review queue: one part after another, by keyboard, nearest to the threshold first."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from blemish.station.api.access import Here, Operator, Viewer
from blemish.station.api.schemas import UUID, Id
from blemish.station.core import Station
from blemish.station.pages import records
from blemish.station.pages.inspections import put_on_record
from blemish.station.pages.rendering import by_htmx, fragment, go, page
from blemish.station.people import Person
from blemish.station.store.inspections import awaiting, count_awaiting, find

router = APIRouter()

Name = Annotated[str | None, Query(max_length=255)]
Field = Annotated[str, Form(max_length=255)]
Skipped = Annotated[str, Form(max_length=8000)]  # ids, with commas between them
_SKIPPED = 200  # that are remembered; those before come again


@router.get("/review")
def review_page(
    request: Request, station: Here, person: Viewer, inspector: Name = None
) -> Response:
    """The part that comes first."""
    names = [held.name for held in station.shelf.held]
    told = _next(station, inspector or None)
    return page(request, person, "review.html", names=names, **told)


@router.post("/review/{id}")
def decide(
    request: Request,
    station: Here,
    person: Operator,
    id: Id,
    what: Annotated[str, Form(max_length=20)],
    inspector: Field = "",
    skipped: Skipped = "",
) -> Response:
    """What a person says of a part (or that they skip it), and the part that follows."""
    skips = _ids(skipped)
    if what == "skip":
        skips = [*skips, id][-_SKIPPED:]
        told = _next(station, inspector or None, skips)
    else:
        put_on_record(station.reviewing, id, what, person)
        told = _next(station, inspector or None, skips, last=(id, what))
    return _answer(request, person, told)


@router.post("/review/{id}/back")
def take_back(
    request: Request,
    station: Here,
    person: Operator,
    id: Id,
    inspector: Field = "",
    skipped: Skipped = "",
) -> Response:
    """Show a part again, for another decision; its waiting proposal is withdrawn.

    Nothing on record is changed: the newest decision counts.
    """
    for candidate in station.reviewing.candidates("waiting"):
        if candidate.inspection_id == id and candidate.proposed_by == person.name:
            station.reviewing.reject(candidate.id, person, "taken back while reviewing")
    told = _next(station, inspector or None, _ids(skipped))
    judged = find(station.database, id)
    shown = _shown(station, judged)
    return _answer(request, person, told | shown | {"again": True})


def _answer(request: Request, person: Person, told: dict[str, Any]) -> Response:
    if not by_htmx(request):
        return go(request, "/review", inspector=told["inspector"] or "")
    return fragment("_review.html", person, **told)


def _next(
    station: Station,
    inspector: str | None,
    skips: list[str] | None = None,
    last: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """What the page shows: the first part of the queue, and how many there are."""
    skipped = skips or []
    found = awaiting(station.database, inspector=inspector, limit=2, skip=skipped)
    count = count_awaiting(station.database, inspector=inspector)
    return {
        "inspector": inspector,
        "skipped": ",".join(skipped),
        "skips": len(skipped),
        "count": count,
        "last": None if last is None else _said(station, *last),
        "following": found[1].row.id if len(found) > 1 else None,
        "again": False,
        **_shown(station, found[0] if found else None),
    }  # fmt: skip


def _said(station: Station, key: str, what: str) -> dict[str, Any]:
    return {"judged": find(station.database, key), "what": what}


def _shown(station: Station, judged: Any) -> dict[str, Any]:
    if judged is None:
        return {"judged": None, "row": None, "said": None}
    return {
        "judged": judged, "row": judged.row, "said": records.said(station.database, judged.row),
    }  # fmt: skip


def _ids(text: str) -> list[str]:
    return [key for key in text.split(",") if re.fullmatch(UUID, key)][-_SKIPPED:]
