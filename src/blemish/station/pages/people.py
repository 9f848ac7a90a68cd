"""People: who has a token, giving one, taking it away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from blemish.station.api.access import Admin, Here
from blemish.station.pages.rendering import go, page
from blemish.station.people import MAY, ROLES

router = APIRouter()


@router.get("/people")
def people_page(request: Request, station: Here, person: Admin) -> Response:
    """Who has a token, or had one."""
    return page(
        request, person, "people.html", tokens=station.people.tokens(), roles=ROLES, may=MAY,
        given=None,
    )  # fmt: skip


@router.post("/people")
def give(
    request: Request,
    station: Here,
    person: Admin,
    name: Annotated[str, Form(max_length=255)],
    role: Annotated[str, Form(max_length=20)],
) -> Response:
    """Give a token, which the page shows this once."""
    token = station.people.give(name, role)
    return page(
        request, person, "people.html", tokens=station.people.tokens(), roles=ROLES, may=MAY,
        given={"name": name, "role": role, "token": token},
    )  # fmt: skip


@router.post("/people/revoke")
def take_away(
    request: Request, station: Here, person: Admin, name: Annotated[str, Form(max_length=255)]
) -> Response:
    """Take a token away."""
    station.people.take_away(name)
    return go(request, "/people", "taken")
