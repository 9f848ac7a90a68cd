"""Health: sources, sinks and other parts, letters that could not be delivered, store and disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from sqlalchemy import func, select, update
from starlette.responses import Response

from blemish.station.api.access import Engineer, Here, Viewer
from blemish.station.core import Station
from blemish.station.errors import StoreError
from blemish.station.pages.rendering import go, page
from blemish.station.store import Database, now
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
    dead, waiting = letters(station.database)
    return page(
        request, person, "health.html", parts=station.health(), dead=dead, undelivered=waiting,
        disk=_disk(station.settings.folder), store=_store(station), settings=station.settings,
        inspecting=station.inspecting, held=station.shelf.held, broken=station.shelf.broken,
    )  # fmt: skip


@router.post("/deliveries/resend")
def resend(
    request: Request,
    station: Here,
    person: Engineer,
    id: Annotated[list[str] | None, Form()] = None,
    sink: Annotated[str, Form(max_length=255)] = "",
) -> Response:
    """Send dead letters again: those named, or all of a sink."""
    send_again(station.database, id or [], sink or None)
    return go(request, "/health", "resent")


def letters(database: Database) -> tuple[list[DeliveryRow], dict[str, int]]:
    """The newest dead letters, and how many results wait for each sink."""
    with database.reading() as session:
        dead = session.scalars(
            select(DeliveryRow)
            .filter_by(state="dead")
            .order_by(DeliveryRow.id.desc())
            .limit(LETTERS)
        ).all()
        counted = session.execute(
            select(DeliveryRow.sink, func.count())
            .filter_by(state="waiting")
            .group_by(DeliveryRow.sink)
        ).all()
    return list(dead), {sink: int(count) for sink, count in counted}  # fmt: skip


def send_again(database: Database, keys: list[str], sink: str | None) -> int:
    """Let dead letters be tried from the beginning; returns how many."""
    query = update(DeliveryRow).filter_by(state="dead")
    query = query.where(DeliveryRow.sink == sink if sink else DeliveryRow.id.in_(keys))
    with database.writing() as session:
        done: Any = session.execute(
            query.values(state="waiting", tries=0, next_try=now(), ended_at=None)
        )
    return int(done.rowcount)


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
