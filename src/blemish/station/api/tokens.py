"""Who one is, and who has a token."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from blemish.station.api import schemas
from blemish.station.api.access import Admin, Here, Viewer
from blemish.station.api.problems import responses

router = APIRouter(tags=["people"])

_GIVE = responses(401, 403, 404, 409, 422, 503)


@router.get("/me", response_model=schemas.Me, responses=responses(401, 503))
def me(person: Viewer) -> Any:
    """Who asks, and what they may do."""
    return asdict(person)


@router.get("/tokens", response_model=list[schemas.TokenOut], responses=responses(401, 403, 503))
def list_tokens(station: Here, person: Admin) -> Any:
    """Who has a token, or had one; never the tokens themselves."""
    return [asdict(token) for token in station.people.tokens()]


@router.post("/tokens", status_code=201, response_model=schemas.TokenGiven, responses=_GIVE)
def give_token(station: Here, person: Admin, told: schemas.TokenIn) -> Any:
    """Give a token; it is told this once."""
    token = station.people.give(told.name, told.role)
    return {"name": told.name, "role": told.role, "token": token}


@router.delete("/tokens/{name}", status_code=204, responses=_GIVE)
def take_token_away(
    station: Here, person: Admin, name: Annotated[str, Path(max_length=64)]
) -> Response:
    """Take a token away; its bearer is signed out everywhere."""
    station.people.take_away(name)
    return Response(status_code=204)
