"""Who asks, told from a token or a browser's session, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from blemish.station.api.problems import UnauthorizedError
from blemish.station.core import Station
from blemish.station.errors import NotAllowedError
from blemish.station.people import ANONYMOUS, Person, Role

COOKIE = "blemish_session"
SAFE = {"GET", "HEAD", "OPTIONS"}

_bearer = HTTPBearer(auto_error=False, description="A token from `blemish token give`.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="A browser that was signed in.")


def station_of(request: Request) -> Station:
    """The station that the application serves."""
    found: Station = request.app.state.station
    return found


Here = Annotated[Station, Depends(station_of)]


def person_of(
    request: Request,
    station: Here,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    session: Annotated[str | None, Depends(_cookie)],
) -> Person:
    """Who asks; raises UnauthorizedError for somebody unknown where nobody may look unknown."""
    if bearer is not None:
        person = station.people.of_token(bearer.credentials)
        if person is None:
            raise UnauthorizedError("this token is not known here, or was taken away")
        return person
    if "authorization" in request.headers:
        raise UnauthorizedError("give the token as 'Authorization: Bearer TOKEN'")
    if session is not None and (person := station.people.of_session(session)) is not None:
        check_origin(request)
        return person
    if station.anonymous:
        return ANONYMOUS
    raise UnauthorizedError("say who you are: 'Authorization: Bearer TOKEN', or sign in")


def check_origin(request: Request) -> None:
    """A browser sends the cookie along from any page; only our own may change something.

    Raises NotAllowedError.
    """
    if request.method in SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    same = urlsplit(origin).netloc == request.headers.get("host") if origin else site is None
    if not same or site not in {None, "same-origin", "none"}:
        raise NotAllowedError("this was asked from a page of another site; open the station itself")


def needs(role: Role) -> Callable[[Person], Person]:
    """A dependency: somebody who may do what `role` may."""

    def check(person: Annotated[Person, Depends(person_of)]) -> Person:
        if not person.signed_in and role != "viewer":
            raise UnauthorizedError(
                f"without a token one may only look; this takes one with the role {role}"
            )
        person.check(role)
        return person

    return check


Viewer = Annotated[Person, Depends(needs("viewer"))]
Operator = Annotated[Person, Depends(needs("operator"))]
Engineer = Annotated[Person, Depends(needs("engineer"))]
Admin = Annotated[Person, Depends(needs("admin"))]
