"""Trends: yield, score and latency over time, and alarms of drift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from starlette.responses import Response

from blemish.station.api.access import Here, Operator, Viewer
from blemish.station.api.schemas import Id
from blemish.station.errors import UnknownError
from blemish.station.pages.counting import VERDICTS, Span, spans, stations
from blemish.station.pages.rendering import go, page
from blemish.station.people import Person
from blemish.station.store import Database, now
from blemish.station.store.tables import AlarmRow

router = APIRouter()

# How far back, and in which steps, in hours.
RANGES = {"day": (24, 1), "week": (168, 1), "month": (720, 6), "year": (8760, 24)}
ALARMS = 30

Name = Annotated[str | None, Query(max_length=255)]


@router.get("/trends")
def trends_page(
    request: Request,
    station: Here,
    person: Viewer,
    inspector: Name = None,
    at: Name = None,
    since: Literal["day", "week", "month", "year"] = "week",
) -> Response:
    """Charts by the hour (or more), and the alarms."""
    hours, step = RANGES[since]
    found = spans(station.database, hours, step, inspector or None, at or None)
    alarms = alarms_of(station.database, inspector or None, at or None)
    return page(
        request, person, "trends.html", charts=charts(found), spans=found, alarms=alarms,
        total=sum(span.total for span in found), passed=sum(span.parts["pass"] for span in found),
        names=[held.name for held in station.shelf.held], stations=stations(station.database),
        inspector=inspector or None, at=at or None, since=since, ranges=list(RANGES),
        verdicts=VERDICTS,
    )  # fmt: skip


@router.post("/alarms/{id}/seen")
def alarm_seen(request: Request, station: Here, person: Operator, id: Id) -> Response:
    """Somebody has seen an alarm."""
    mark_seen(station.database, id, person)
    return go(request, "/trends", "seen")


def alarms_of(database: Database, inspector: str | None, station: str | None) -> list[AlarmRow]:
    """The last alarms: those that go on first, then newest first."""
    query = select(AlarmRow)
    if inspector is not None:
        query = query.filter_by(inspector=inspector)
    if station is not None:
        query = query.filter_by(station=station)
    query = query.order_by(AlarmRow.ended_at.is_not(None), AlarmRow.id.desc()).limit(ALARMS)
    with database.reading() as session:
        return list(session.scalars(query))


def mark_seen(database: Database, key: str, person: Person) -> None:
    """Put on record who has seen an alarm first; raises UnknownError."""
    with database.writing() as session:
        row = session.get(AlarmRow, key)
        if row is None:
            raise UnknownError(f"there is no alarm '{key}'")
        if row.seen_at is None:
            row.seen_by, row.seen_at = person.name, now()


def charts(found: list[Span]) -> dict[str, Any]:
    """Columns for the charts: times, and values of which None is a gap."""

    def column(value: Callable[[Span], float | None]) -> list[float | None]:
        return [value(span) for span in found]

    return {
        "times": [span.start for span in found],
        "yield": column(lambda span: 100 * span.parts["pass"] / span.total if span.total else None),
        **{verdict: column(lambda span, one=verdict: span.parts[one]) for verdict in VERDICTS},  # type: ignore[misc]
        "score": column(lambda span: span.score_sum / span.scored if span.scored else None),
        "worst": column(lambda span: span.score_max),
        "latency": column(lambda span: span.latency_sum / span.total if span.total else None),
        "slowest": column(lambda span: span.latency_max),
    }
