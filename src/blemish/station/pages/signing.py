"""Signing in with a token, and out."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from blemish.station.api.access import COOKIE, Here, check_origin
from blemish.station.api.problems import UnauthorizedError
from blemish.station.errors import BusyError
from blemish.station.pages.rendering import go, page

router = APIRouter()

TRIES = 8  # wrong tokens from one address
WITHIN = 60.0  # s
_ADDRESSES = 4096  # that are remembered


class Attempts:
    """Wrong tokens by address: whoever guesses has to wait."""

    def __init__(self) -> None:
        self._failed: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raise BusyError after TRIES wrong tokens WITHIN s."""
        with self._lock:
            recent = self._recent(address)
            if len(recent) >= TRIES:
                wait = max(1.0, recent[0] + WITHIN - time.monotonic())
                raise BusyError(
                    f"{TRIES} wrong tokens came from here within {WITHIN:g} s; wait {wait:.0f} s",
                    retry_after=wait,
                )

    def failed(self, address: str) -> None:
        """A wrong token came."""
        with self._lock:
            if address not in self._failed and len(self._failed) >= _ADDRESSES:
                self._failed.pop(next(iter(self._failed)))  # the one known for longest
            self._failed.setdefault(address, deque(maxlen=TRIES)).append(time.monotonic())

    def _recent(self, address: str) -> deque[float]:
        times = self._failed.get(address, deque())
        while times and times[0] < time.monotonic() - WITHIN:
            times.popleft()
        return times


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    """Where one gives one's token."""
    return page(request, None, "sign_in.html", following=_own(next), wrong=None)


@router.post("/sign-in")
def sign_in(
    request: Request,
    station: Here,
    token: Annotated[str, Form(max_length=512)] = "",
    next: Annotated[str, Form(max_length=2048)] = "/",
) -> Response:
    """Begin a session, or say that the token is wrong."""
    check_origin(request)
    attempts: Attempts = request.app.state.attempts
    address = request.client.host if request.client else ""
    attempts.check(address)
    secret = station.people.sign_in(token.strip())
    if secret is None:
        attempts.failed(address)
        wrong = UnauthorizedError("This token is not known here, or was taken away.")
        return page(request, None, "sign_in.html", 401, following=_own(next), wrong=str(wrong))
    response = go(request, _own(next))
    response.set_cookie(
        COOKIE, secret, path="/", httponly=True, samesite="strict",
        max_age=round(station.settings.session_hours * 3600),
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.post("/sign-out")
def sign_out(request: Request, station: Here) -> Response:
    """End the session, here and in the store."""
    check_origin(request)
    if (secret := request.cookies.get(COOKIE)) is not None:
        station.people.sign_out(secret)
    response = go(request, "/sign-in", "signed_out")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _own(path: str) -> str:
    """A path of this station, so that no link to the sign-in page leads elsewhere after it."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if plain and path.isprintable() else "/"
