"""The pages people look at: rendered here, served with the network cable out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from blemish.station.core import Station
from blemish.station.pages import (
    candidates,
    description,
    errors,
    health,
    inspections,
    inspectors,
    live,
    people,
    pictures,
    review,
    signing,
    thresholds,
    trends,
)
from blemish.station.pages.rendering import STATIC

__all__ = ["mount"]

SUBJECTS = (
    live, inspections, pictures, review, candidates, inspectors, thresholds, trends, health,
    people, signing, description,
)  # fmt: skip


def mount(app: FastAPI, station: Station) -> None:
    """Add the pages of a station, and let its errors be pages where a browser asks for one."""
    app.state.pictures = pictures.Pictures(station)
    app.state.attempts = signing.Attempts()
    for subject in SUBJECTS:
        app.include_router(
            subject.router, include_in_schema=False, default_response_class=HTMLResponse
        )
    app.mount("/static", _Static(directory=STATIC), name="static")
    errors.install(app)


class _Static(StaticFiles):
    """Files that change only with a version of Blemish, which is part of their address."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        """A file, to be kept."""
        response = super().file_response(*given, **named)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file; what has no version in its address is asked for again each time."""
        response = await super().get_response(path, scope)
        if not scope.get("query_string"):
            response.headers["Cache-Control"] = "no-cache"
        return response
