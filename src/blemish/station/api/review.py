"""Review: the queue, decisions, candidates for templates, missed defects."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from blemish.station.api import schemas
from blemish.station.api.access import Engineer, Here, Operator, Viewer
from blemish.station.api.inspectors import change_to_dict, regression_to_dict
from blemish.station.api.problems import responses
from blemish.station.results import moment, result_to_dict
from blemish.station.store.inspections import awaiting
from blemish.station.store.tables import CandidateRow

router = APIRouter(tags=["review"])

_SAY = responses(401, 403, 404, 409, 422, 503)


@router.get(
    "/review", response_model=list[schemas.InspectionOut], responses=responses(401, 422, 503)
)
def review_queue(
    station: Here,
    person: Viewer,
    inspector: Annotated[str | None, Query(max_length=255)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Any:
    """Parts that wait for a person, nearest to the threshold first."""
    found = awaiting(station.database, inspector=inspector, limit=limit)
    return JSONResponse([result_to_dict(one) for one in found])


@router.post(
    "/inspections/{id}/decisions",
    status_code=201,
    response_model=schemas.DecisionOut,
    responses=_SAY,
)
def decide(station: Here, person: Operator, id: schemas.Id, told: schemas.DecisionIn) -> Any:
    """Say what a part is; the machine's verdict stays on record beside it."""
    row = station.reviewing.decide(id, told.decision, person, told.note)
    return {
        "decision": row.decision, "by": row.by, "note": row.note,
        "decided_at": moment(row.decided_at),
    }  # fmt: skip


@router.post(
    "/inspections/{id}/candidates",
    status_code=201,
    response_model=schemas.CandidateOut,
    responses=_SAY,
)
def propose(station: Here, person: Operator, id: schemas.Id, told: schemas.Note) -> Any:
    """This part is good: propose it as a template, which a second person approves."""
    return candidate_to_dict(station.reviewing.propose(id, person, told.note))


@router.post(
    "/inspections/{id}/missed",
    status_code=201,
    response_model=schemas.RegressionPartOut,
    responses=_SAY,
)
def missed(station: Here, person: Operator, id: schemas.Id, told: schemas.Note) -> Any:
    """This part is bad and was let through: it joins the regression set."""
    return regression_to_dict(station.reviewing.missed(id, person, told.note))


@router.post(
    "/inspections/{id}/false-alarm",
    status_code=201,
    response_model=schemas.RegressionPartOut,
    responses=_SAY,
)
def false_alarm(station: Here, person: Operator, id: schemas.Id, told: schemas.Note) -> Any:
    """This part is good and was stopped: it joins the regression set."""
    return regression_to_dict(station.reviewing.false_alarm(id, person, told.note))


@router.get(
    "/candidates", response_model=list[schemas.CandidateOut], responses=responses(401, 422, 503)
)
def list_candidates(
    station: Here,
    person: Viewer,
    state: Annotated[str | None, Query(pattern="^(waiting|approved|rejected)$")] = None,
    inspector: Annotated[str | None, Query(max_length=255)] = None,
) -> Any:
    """Parts proposed as templates."""
    return [candidate_to_dict(row) for row in station.reviewing.candidates(state, inspector)]


@router.post("/candidates/{id}/approve", response_model=schemas.ChangeOut, responses=_SAY)
def approve(station: Here, person: Engineer, id: schemas.Id, told: schemas.ChangeIn) -> Any:
    """Make it a template; the new version goes live if the regression set allows it."""
    return change_to_dict(station.reviewing.approve(id, person, told.note, force=told.force))


@router.post("/candidates/{id}/reject", response_model=schemas.CandidateOut, responses=_SAY)
def reject(station: Here, person: Operator, id: schemas.Id, told: schemas.Note) -> Any:
    """Leave it out."""
    return candidate_to_dict(station.reviewing.reject(id, person, told.note))


def candidate_to_dict(row: CandidateRow) -> dict[str, Any]:
    """A candidate for JSON."""
    names = (
        "id", "inspection_id", "inspector", "state", "proposed_by", "note", "decided_by", "answer",
        "version",
    )  # fmt: skip
    return {
        **{name: getattr(row, name) for name in names},
        "proposed_at": moment(row.proposed_at),
        "decided_at": None if row.decided_at is None else moment(row.decided_at),
    }
