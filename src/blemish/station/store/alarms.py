"""Alarms of drift: those that go on, and who has seen them."""

from __future__ import annotations

from sqlalchemy import select

from blemish.station.errors import UnknownError
from blemish.station.store.opening import Database
from blemish.station.store.tables import AlarmRow
from blemish.station.store.types import now


def alarms(
    database: Database,
    *,
    inspector: str | None = None,
    station: str | None = None,
    open_only: bool = False,
    limit: int = 30,
) -> list[AlarmRow]:
    """The last alarms: those that go on first, then newest first."""
    query = select(AlarmRow)
    if inspector is not None:
        query = query.filter_by(inspector=inspector)
    if station is not None:
        query = query.filter_by(station=station)
    if open_only:
        query = query.filter_by(ended_at=None)
    query = query.order_by(AlarmRow.ended_at.is_not(None), AlarmRow.id.desc()).limit(limit)
    with database.reading() as session:
        return list(session.scalars(query))


def mark_seen(database: Database, key: str, by: str) -> AlarmRow:
    """Put on record who has seen an alarm first; raises UnknownError."""
    with database.writing() as session:
        row = session.get(AlarmRow, key)
        if row is None:
            raise UnknownError(f"there is no alarm '{key[:80]}'")
        if row.seen_at is None:
            row.seen_by, row.seen_at = by, now()
    return row
