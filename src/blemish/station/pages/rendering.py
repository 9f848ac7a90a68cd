"""Pages from templates: what every one of them knows, and how numbers and times are written."""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from blemish._version import __version__
from blemish.station.api.access import station_of
from blemish.station.pages.counting import Waiting, waiting
from blemish.station.people import Person

NOTHING = "\N{EN DASH}"
HERE = Path(__file__).parent
STATIC = HERE / "static"

# What was just done, told on the page that follows; by key, so that a link can say nothing else.
DONE = {
    "pass": "Your decision is on record: pass.",
    "fail": "Your decision is on record: fail.",
    "propose": "Proposed as a template; a second person has to approve it.",
    "missed": "On record as a missed defect: no new version may do worse on it.",
    "false_alarm": "On record as a false alarm: no new version may do worse on it.",
    "approved": "Approved: the new version is live.",
    "rejected": "Rejected: it is left out.",
    "rollback": "Rolled back: the new version is live.",
    "threshold": "The new thresholds are live.",
    "forgotten": "Taken out of the regression set.",
    "seen": "Marked as seen.",
    "resent": "The results are sent again.",
    "taken": "The token was taken away.",
    "signed_out": "You are signed out.",
}


def page(
    request: Request, person: Person | None, template: str, status: int = 200, **told: Any
) -> HTMLResponse:
    """A whole page; `told` is what its template shows."""
    station = station_of(request)
    shown = {
        "person": person,
        "station": station.settings.name,
        "path": request.url.path,
        "waiting": waiting(station) if person is not None else Waiting(),
        "done": DONE.get(request.query_params.get("done", "")),
        "version": __version__,
    }
    text = environment().get_template(template).render(shown | told)
    return HTMLResponse(text, status, {"Cache-Control": "no-store"})


def fragment(template: str, person: Person, status: int = 200, **told: Any) -> HTMLResponse:
    """A piece of a page, which htmx puts in its place."""
    text = environment().get_template(template).render(person=person, **told)
    return HTMLResponse(text, status, {"Cache-Control": "no-store"})


def by_htmx(request: Request) -> bool:
    """Whether a script asks for a piece of a page, rather than a browser for a whole one."""
    return request.headers.get("HX-Request") == "true"


def go(request: Request, path: str, done: str | None = None, **query: str) -> Response:
    """On to a page of this station, after something was done."""
    told = {name: value for name, value in {**query, "done": done}.items() if value}
    address = path + (f"?{urlencode(told)}" if told else "")
    if by_htmx(request):
        return Response(status_code=204, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


@cache
def environment() -> Environment:
    """The templates. Everything is escaped; a name that is not there is an error."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["static"] = static
    found.filters |= {
        "number": number, "share": share, "moment": moment, "path": path, "data": data,
        "ticks": ticks,
    }  # fmt: skip
    return found


@cache
def static(name: str) -> str:
    """The address of a static file, which changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def number(value: float | None, digits: int = 4) -> str:
    """A number for people, to so many digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value and (abs(value) >= 10**6 or abs(value) < 1e-4):
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
    return f"{value:.{min(decimals, 6)}f}"


def share(value: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def moment(value: datetime | str | None) -> str:
    """A time in UTC; the browser shows it in its own zone."""
    if value is None:
        return NOTHING
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.strftime("%Y-%m-%d %H:%M:%S UTC")


def path(text: str) -> str:
    """A name as one step of an address."""
    return quote(text, safe="")


def data(value: Any) -> str:
    """Values for a script, as JSON in an attribute (escaped there as all text is)."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def ticks(text: str) -> Markup:
    """Text in which `code` stands between backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
