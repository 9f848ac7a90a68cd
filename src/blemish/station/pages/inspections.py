"""The list of parts, with filters, and the page of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from blemish.errors import ParameterError
from blemish.station.api.access import Here, Operator, Viewer
from blemish.station.api.schemas import Cursor, Id
from blemish.station.errors import UnknownError
from blemish.station.pages import records
from blemish.station.pages.counting import stations
from blemish.station.pages.rendering import go, page
from blemish.station.people import Person
from blemish.station.review import Reviewing
from blemish.station.store import Filter
from blemish.station.store.inspections import find, listed

router = APIRouter()

PAGE = 50
_EQUAL = ("inspector", "verdict", "station", "part_id", "source", "image_sha256")


@router.get("/inspections")
def list_page(request: Request, station: Here, person: Viewer, cursor: Cursor = None) -> Response:
    """Recorded parts, newest first."""
    asked = {
        name: value for name, value in request.query_params.items()
        if value and name not in {"cursor", "done"}
    }  # fmt: skip
    wanted = filter_of(asked)
    found = listed(station.database, wanted, limit=PAGE, after=cursor)
    return page(
        request, person, "inspections.html", asked=asked, found=found.inspections,
        following=found.following, cursor=cursor, filters=urlencode(asked),
        exported=urlencode(_exported(asked, wanted)),
        names=[held.name for held in station.shelf.held], stations=stations(station.database),
    )  # fmt: skip


@router.get("/inspections/{id}")
def part_page(request: Request, station: Here, person: Viewer, id: Id) -> Response:
    """One part: what was found, by what, and what people said of it."""
    judged = find(station.database, id)
    row = judged.row
    try:
        scores: dict[str, Any] | None = records.scores(station, row.inspector)
    except UnknownError:
        scores = None  # the inspector has gone; its results have not
    earlier, later = records.beside(station.database, row)
    return page(
        request, person, "part.html", judged=judged, row=row, scores=scores, earlier=earlier,
        later=later, said=records.said(station.database, row),
    )  # fmt: skip


@router.post("/inspections/{id}/said")
def say(
    request: Request,
    station: Here,
    person: Operator,
    id: Id,
    what: Annotated[str, Form(max_length=20)],
    note: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """What a person says of a part."""
    put_on_record(station.reviewing, id, what, person, note)
    return go(request, f"/inspections/{id}", what)


def put_on_record(
    reviewing: Reviewing, key: str, what: str, person: Person, note: str = ""
) -> None:
    """`what` is pass, fail, propose, missed or false_alarm; raises ParameterError for others."""
    if what in {"pass", "fail"}:
        reviewing.decide(key, what, person, note)
    elif what == "propose":
        reviewing.propose(key, person, note)
    elif what == "missed":
        reviewing.missed(key, person, note)
    elif what == "false_alarm":
        reviewing.false_alarm(key, person, note)
    else:
        raise ParameterError(
            f"'{what}' is nothing one can say of a part; give pass, fail, propose, missed or "
            "false_alarm"
        )


def filter_of(asked: Mapping[str, str]) -> Filter:
    """The filter that a form's fields ask for; raises ParameterError with the field."""
    decided = {"open": False, "any": True}.get(asked.get("decision", ""))
    decision = asked.get("decision")
    if decision is not None and decision not in {"open", "any", "pass", "fail"}:
        raise ParameterError(f"decision: '{decision[:40]}' is none of open, any, pass, fail")
    return Filter(
        **{name: asked.get(name) for name in _EQUAL},
        version=None if "version" not in asked else round(_number("version", asked["version"])),
        decided=decided,
        decision=decision if decision in {"pass", "fail"} else None,
        since=_day("since", asked),
        until=_day("until", asked, timedelta(days=1)),
        min_score=None if "min_score" not in asked else _number("min_score", asked["min_score"]),
        max_score=None if "max_score" not in asked else _number("max_score", asked["max_score"]),
    )


def _exported(asked: Mapping[str, str], wanted: Filter) -> dict[str, str]:
    """The same filter as the API's query, for the files."""
    found = {name: value for name, value in asked.items() if name in {*_EQUAL, "version"}}
    for name in ("min_score", "max_score"):
        if name in asked:
            found[name] = asked[name]
    if wanted.decided is not None:
        found["decided"] = str(wanted.decided).lower()
    if wanted.decision is not None:
        found["decision"] = wanted.decision
    for name, value in (("since", wanted.since), ("until", wanted.until)):
        if value is not None:
            found[name] = value.isoformat()
    return found


def _number(name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise ParameterError(f"{name}: '{text[:40]}' is not a number") from error
    if not abs(found) < 2**53:
        raise ParameterError(f"{name}: '{text[:40]}' is too large")
    return found


def _day(name: str, asked: Mapping[str, str], after: timedelta = timedelta(0)) -> datetime | None:
    if name not in asked:
        return None
    try:
        day = date.fromisoformat(asked[name])
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + after
    except (ValueError, OverflowError) as error:
        raise ParameterError(f"{name}: '{asked[name][:40]}' is no day; give 2026-01-31") from error
