"""What the pages count beside the statistics: what waits for a person, the last day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select

from blemish.station.core import Station
from blemish.station.store import Database, now
from blemish.station.store.inspections import count_awaiting
from blemish.station.store.statistics import DAY, Counts, Scope, counted
from blemish.station.store.tables import AlarmRow, CandidateRow, TallyRow


@dataclass(frozen=True)
class Waiting:
    """How many things wait for a person."""

    review: int = 0
    candidates: int = 0
    alarms: int = 0  # open, and seen by nobody


def waiting(station: Station) -> Waiting:
    """What waits at a station now."""
    with station.database.reading() as session:
        candidates = session.scalar(
            select(func.count()).select_from(CandidateRow).filter_by(state="waiting")
        )
        alarms = session.scalar(
            select(func.count()).select_from(AlarmRow).filter_by(ended_at=None, seen_at=None)
        )
    return Waiting(count_awaiting(station.database), candidates or 0, alarms or 0)


def last_day(database: Database, inspector: str | None = None) -> Counts:
    """The verdicts of the last 24 hours, whole ones."""
    return counted(database, Scope(inspector, since=now() - timedelta(hours=DAY - 1)))


def stations(database: Database) -> list[str]:
    """The stations that have recorded parts here."""
    with database.reading() as session:
        return list(session.scalars(select(TallyRow.station).distinct().order_by(TallyRow.station)))
