"""Errors as pages: the sentence of the API's problem, where a browser asks for a page."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from blemish.errors import BlemishError
from blemish.station.api.access import COOKIE, station_of
from blemish.station.errors import StoreError
from blemish.station.pages.rendering import by_htmx, environment, go, page
from blemish.station.people import ANONYMOUS, Person

Handler = Callable[[Request, Any], Awaitable[Response]]

_ELSEWHERE = ("/api/", "/static/", "/healthz", "/readyz", "/metrics")
NOWHERE = "There is no page at this address; find the part in the list of parts."
_ABOUT = {
    401: "Who are you?",
    403: "Not yours to do",
    404: "It is not here",
    409: "Not now",
    422: "This cannot be",
    429: "Too much at once",
    503: "The store does not answer",
}


def install(app: FastAPI) -> None:
    """Put pages before the problems that the application answers with."""
    for kind in (BlemishError, RequestValidationError, HTTPException, Exception):
        told: Any = app.exception_handlers[kind]
        app.add_exception_handler(kind, _shown(told))


def _shown(told: Handler) -> Handler:
    async def shown(request: Request, error: Any) -> Response:
        response = await told(request, error)
        if not _is_for_people(request):
            return response
        problem = json.loads(bytes(response.body))
        return await run_sync(_page_of, request, problem, response.headers.get("retry-after"))

    return shown


def _is_for_people(request: Request) -> bool:
    if request.url.path.startswith(_ELSEWHERE):
        return False
    return by_htmx(request) or "text/html" in request.headers.get("accept", "")


def _page_of(request: Request, problem: dict[str, Any], retry: str | None) -> Response:
    status, detail = problem["status"], problem["detail"]
    if detail == "Not Found" or detail.startswith("path."):
        status, detail = 404, NOWHERE  # an address that was never given out, or half of one
    if status == 401:
        # A page that was asked for can be asked for again; what was posted cannot.
        asked = request.url.path if request.method == "GET" and not by_htmx(request) else "/"
        return go(request, "/sign-in", next=asked)
    if by_htmx(request):
        text = environment().get_template("_notice.html").render(detail=detail, status=status)
        headers = {"HX-Retarget": "#notice", "HX-Reswap": "innerHTML"}
        response = Response(text, status, headers, media_type="text/html")
    else:
        title = _ABOUT.get(status, problem["title"])
        response = page(
            request, _whoever(request), "error.html", status, title=title, detail=detail,
            back=request.headers.get("referer") and request.method != "GET",
        )  # fmt: skip
    if retry is not None:
        response.headers["Retry-After"] = retry
    return response


def _whoever(request: Request) -> Person | None:
    """Who is signed in, if that can be told: an error's page must not fail in turn."""
    station = station_of(request)
    try:
        station.database.check()
        secret = request.cookies.get(COOKIE)
        person = None if secret is None else station.people.of_session(secret)
    except StoreError:
        return None
    return person or (ANONYMOUS if station.anonymous else None)
