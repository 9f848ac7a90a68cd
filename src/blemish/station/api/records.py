"""What is known over time: counts and trends, alarms of drift, results that no sink has taken."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from blemish.station.api import schemas
from blemish.station.api.access import Engineer, Here, Operator, Viewer
from blemish.station.api.problems import responses
from blemish.station.results import moment
from blemish.station.sinks import dead_letters, resend
from blemish.station.store.alarms import alarms, mark_seen
from blemish.station.store.statistics import Counts, Scope, latency, trend
from blemish.station.store.tables import AlarmRow, DeliveryRow

router = APIRouter(tags=["records"])

Name = Annotated[str | None, Query(max_length=255)]


@router.get("/statistics", response_model=schemas.StatisticsOut, responses=responses(401, 422, 503))
def statistics(
    station: Here,
    person: Viewer,
    inspector: Name = None,
    station_name: Annotated[str | None, Query(alias="station", max_length=255)] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    hours: Annotated[int, Query(ge=1, le=8760, description="The steps of the trend.")] = 1,
) -> Any:
    """Counts by steps of time, in whole hours, and latency of the newest parts."""
    scope = Scope(inspector, station_name, version, since, until)
    steps = trend(station.database, scope, hours=hours)
    newest = latency(station.database, inspector=inspector, station=station_name)
    return {
        "steps": [{"begin": moment(step.begin), **_counts(step.counts)} for step in steps],
        "latency_ms": {
            "parts": newest.parts, "mean": newest.mean, "p50": newest.p50, "p95": newest.p95,
            "p99": newest.p99, "max": newest.max,
        },
    }  # fmt: skip


@router.get("/alarms", response_model=list[schemas.AlarmOut], responses=responses(401, 422, 503))
def list_alarms(
    station: Here,
    person: Viewer,
    inspector: Name = None,
    open_only: Annotated[bool, Query(alias="open")] = False,
) -> Any:
    """Alarms of drift: those that go on first, then newest first."""
    found = alarms(station.database, inspector=inspector, open_only=open_only, limit=100)
    return [_alarm(row) for row in found]


@router.post(
    "/alarms/{id}/seen",
    response_model=schemas.AlarmOut,
    responses=responses(401, 403, 404, 422, 503),
)
def alarm_seen(station: Here, person: Operator, id: schemas.Id) -> Any:
    """Somebody has seen it."""
    return _alarm(mark_seen(station.database, id, person.name))


@router.get(
    "/deliveries/dead", response_model=list[schemas.DeliveryOut], responses=responses(401, 422, 503)
)
def list_dead_letters(
    station: Here, person: Viewer, sink: Name = None, cursor: schemas.Cursor = None
) -> Any:
    """Results that a sink would not take, newest first; the last one's id is the next cursor."""
    return [_delivery(row) for row in dead_letters(station.database, sink=sink, after=cursor)]


@router.post(
    "/deliveries/{id}/resend",
    status_code=202,
    response_model=schemas.Resent,
    responses=responses(401, 403, 404, 409, 422, 503),
)
def resend_dead_letter(station: Here, person: Engineer, id: schemas.Id) -> Any:
    """Send a dead letter again."""
    resend(station.database, id)
    return {"id": id}


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "parts": counts.parts,
        "verdicts": dict(counts.by_verdict),
        "yield": counts.first_pass_yield,
        "score_mean": counts.score_mean,
        "score_max": counts.score_max,
        "latency_mean_ms": counts.latency_mean,
        "latency_max_ms": counts.latency_max,
    }


def _alarm(row: AlarmRow) -> dict[str, Any]:
    return {
        "id": row.id, "station": row.station, "inspector": row.inspector, "measure": row.measure,
        "message": row.message, "evidence": row.evidence, "raised_at": moment(row.raised_at),
        "ended_at": None if row.ended_at is None else moment(row.ended_at), "seen_by": row.seen_by,
    }  # fmt: skip


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "id": row.id, "inspection_id": row.inspection_id, "station": row.station,
        "sink": row.sink, "tries": row.tries, "last_error": row.last_error,
        "ended_at": None if row.ended_at is None else moment(row.ended_at),
    }  # fmt: skip
