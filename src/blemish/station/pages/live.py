"""The live view: the last parts, their verdicts large, and what needs a person."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from blemish.station.api.access import Here, Viewer
from blemish.station.core import Station
from blemish.station.pages.counting import last_day, waiting
from blemish.station.pages.rendering import environment, fragment, page
from blemish.station.people import Person
from blemish.station.store import Filter
from blemish.station.store.alarms import alarms
from blemish.station.store.inspections import listed

router = APIRouter()

SHOWN = 13  # the newest one, large, and twelve before it

Name = Annotated[str | None, Query(max_length=255)]


@router.get("/")
def live_page(request: Request, station: Here, person: Viewer, inspector: Name = None) -> Response:
    """The live view."""
    names = [held.name for held in station.shelf.held]
    told = _told(station, inspector)
    return page(
        request, person, "live.html", names=names, inspector=inspector or None,
        digest=_digest(person, told), **told,
    )  # fmt: skip


@router.get("/live")
def live_part(station: Here, person: Viewer, inspector: Name = None, seen: str = "") -> Response:
    """What is new; nothing (204) where the page shows it already."""
    told = _told(station, inspector)
    digest = _digest(person, told)
    if digest == seen:
        return Response(status_code=204)
    return fragment("_live.html", person, inspector=inspector or None, digest=digest, **told)


def _told(station: Station, inspector: str | None) -> dict[str, Any]:
    found = listed(station.database, Filter(inspector=inspector or None), limit=SHOWN).inspections
    unseen = [one for one in alarms(station.database, open_only=True) if one.seen_at is None]
    return {
        "newest": found[0] if found else None,
        "before": found[1:],
        "counted": last_day(station.database, inspector or None),
        "alarms": unseen,
        "unwell": [entry for entry in station.health() if not entry.well],
        "broken": station.shelf.broken,
        "waiting": waiting(station),
    }


def _digest(person: Person, told: dict[str, Any]) -> str:
    text = (
        environment()
        .get_template("_live.html")
        .render(person=person, inspector=None, digest="", **told)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
