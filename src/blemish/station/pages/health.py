"""Health: sources, sinks and other parts, letters that could not be delivered, store and disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from sqlalchemy import func, select
from starlette.responses import Response

from blemish.station.api.access import Engineer, Here, Viewer
from blemish.station.core import Station
from blemish.station.errors import StoreError
from blemish.station.pages.rendering import go, page
from blemish.station.sinks import dead_letters, resend
from blemish.station.store import Database
from blemish.station.store.tables import DeliveryRow, TallyRow

router = APIRouter()

LETTERS = 100


@dataclass(frozen=True)
class Disk:
    """The disk under the station's data."""

    folder: Path
    free: int  # bytes
    size: int

    @property
    def used(self) -> float:
        """How full it is, 0 to 1."""
        return 1 - self.free / self.size if self.size else 0.0

    @property
    def tight(self) -> bool:
        """Whether somebody should make room."""
        return self.used > 0.9


@router.get("/health")
def health_page(request: Request, station: Here, person: Viewer) -> Response:
    """How everything is doing."""
    dead = dead_letters(station.database, limit=LETTERS)
    return page(
        request, person, "health.html", parts=station.health(), dead=dead,
        undelivered=_waiting(station.database),
        disk=_disk(station.settings.folder), store=_store(station), settings=station.settings,
        inspecting=station.inspecting, held=station.shelf.held, broken=station.shelf.broken,
    )  # fmt: skip


@router.post("/deliveries/resend")
def send_again(
    request: Request,
    station: Here,
    person: Engineer,
    id: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Send dead letters again."""
    for key in id or []:
        resend(station.database, key)
    return go(request, "/health", "resent")


def _waiting(database: Database) -> dict[str, int]:
    """How many results wait for each sink."""
    query = select(DeliveryRow.sink, func.count()).filter_by(state="waiting")
    with database.reading() as session:
        found = session.execute(query.group_by(DeliveryRow.sink)).all()
    return {sink: int(count) for sink, count in found}


def _disk(folder: Path) -> Disk:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(nearest)
    return Disk(folder, usage.free, usage.total)


def _store(station: Station) -> dict[str, Any]:
    try:
        with station.database.reading() as session:
            parts = session.scalar(select(func.sum(TallyRow.parts)))
        problem = None
    except StoreError as error:
        parts, problem = None, str(error)
    return {"where": station.database.where, "parts": int(parts or 0), "problem": problem}
