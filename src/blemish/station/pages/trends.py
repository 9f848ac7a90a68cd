"""Trends: yield, score and latency over time, and alarms of drift."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from blemish.station.api.access import Here, Operator, Viewer
from blemish.station.api.schemas import Id
from blemish.station.pages.counting import stations
from blemish.station.pages.rendering import go, page
from blemish.station.store import now
from blemish.station.store.alarms import alarms, mark_seen
from blemish.station.store.inspections import HOUR
from blemish.station.store.statistics import VERDICTS, Counts, Scope, Step, trend

router = APIRouter()

# How far back, and in which steps, in hours.
RANGES = {"day": (24, 1), "week": (168, 1), "month": (720, 6), "year": (8760, 24)}

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
    begin = now() - timedelta(hours=hours - 1)
    scope = Scope(inspector or None, at or None, since=begin)
    found = trend(station.database, scope, hours=step)
    return page(
        request, person, "trends.html", charts=charts(found, begin, step), steps=found,
        total=sum(one.counts.parts for one in found),
        passed=sum(one.counts.by_verdict["pass"] for one in found),
        alarms=alarms(station.database, inspector=inspector or None, station=at or None),
        names=[held.name for held in station.shelf.held], stations=stations(station.database),
        inspector=inspector or None, at=at or None, since=since, ranges=list(RANGES),
        verdicts=VERDICTS,
    )  # fmt: skip


@router.post("/alarms/{id}/seen")
def alarm_seen(request: Request, station: Here, person: Operator, id: Id) -> Response:
    """Somebody has seen an alarm."""
    mark_seen(station.database, id, person.name)
    return go(request, "/trends", "seen")


def charts(found: list[Step], begin: datetime, hours: int) -> dict[str, Any]:
    """Columns for the charts: times (s since 1970) without a hole; values of which None is one."""
    width = hours * HOUR
    by_time = {int(step.begin.timestamp()): step.counts for step in found}
    first = int(begin.timestamp()) // width * width
    last = max([int(now().timestamp()), *by_time]) // width * width
    counts = [by_time.get(time) for time in range(first, last + 1, width)]

    def column(value: Callable[[Counts], float | None]) -> list[float | None]:
        return [None if one is None else value(one) for one in counts]

    return {
        "times": list(range(first, last + 1, width)),
        "yield": column(lambda one: 100 * (one.first_pass_yield or 0.0)),
        **{
            name: [0 if one is None else one.by_verdict[name] for one in counts]
            for name in VERDICTS
        },
        "score": column(lambda one: one.score_mean),
        "worst": column(lambda one: one.score_max),
        "latency": column(lambda one: one.latency_mean),
        "slowest": column(lambda one: one.latency_max),
    }  # fmt: skip
