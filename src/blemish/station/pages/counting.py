"""What the pages count: who is waited for, verdicts by the hour, from the tallies."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from blemish.station.core import Station
from blemish.station.store import Database
from blemish.station.store.inspections import HOUR, count_awaiting
from blemish.station.store.tables import AlarmRow, CandidateRow, TallyRow

VERDICTS = ("pass", "review", "fail", "error")


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


@dataclass(frozen=True)
class Counted:
    """How many parts had which verdict."""

    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.verdicts.values())

    @property
    def yields(self) -> float | None:
        """The share that passed; None without parts."""
        return self.verdicts.get("pass", 0) / self.total if self.total else None

    def __getitem__(self, verdict: str) -> int:
        return self.verdicts.get(verdict, 0)


def counted(database: Database, hours: int = 24, inspector: str | None = None) -> Counted:
    """The verdicts of the last hours, whole ones."""
    query = select(TallyRow.verdict, func.sum(TallyRow.parts)).where(TallyRow.hour >= _first(hours))
    if inspector is not None:
        query = query.where(TallyRow.inspector == inspector)
    with database.reading() as session:
        found = session.execute(query.group_by(TallyRow.verdict)).all()
    return Counted({verdict: int(parts) for verdict, parts in found})


@dataclass
class Span:
    """What was inspected in a span of time that begins at `start` (s since 1970)."""

    start: int
    parts: Counter[str] = field(default_factory=Counter)
    score_sum: float = 0.0
    score_max: float | None = None
    latency_sum: float = 0.0
    latency_max: float | None = None

    @property
    def total(self) -> int:
        """How many parts."""
        return self.parts.total()

    @property
    def scored(self) -> int:
        """How many of them had a score."""
        return self.total - self.parts["error"]


def spans(
    database: Database, hours: int, step: int, inspector: str | None = None,
    station: str | None = None,
) -> list[Span]:  # fmt: skip
    """The last hours in steps of so many, oldest first; the empty ones too."""
    rows = TallyRow
    query = select(
        rows.hour, rows.verdict, func.sum(rows.parts), func.sum(rows.score_sum),
        func.max(rows.score_max), func.sum(rows.latency_sum), func.max(rows.latency_max),
    ).where(rows.hour >= _first(hours))  # fmt: skip
    if inspector is not None:
        query = query.where(rows.inspector == inspector)
    if station is not None:
        query = query.where(rows.station == station)
    with database.reading() as session:
        found = session.execute(query.group_by(rows.hour, rows.verdict)).all()
    first = _first(hours) // step
    last = _now() // step
    by_step = {index: Span(index * step * HOUR) for index in range(first, last + 1)}
    for row in found:
        if (span := by_step.get(row[0] // step)) is not None:  # a clock may have run ahead
            _add(span, *row[1:])
    return list(by_step.values())


def stations(database: Database) -> list[str]:
    """The stations that have recorded parts here."""
    with database.reading() as session:
        return list(session.scalars(select(TallyRow.station).distinct().order_by(TallyRow.station)))


def _add(
    span: Span, verdict: str, parts: Any, score: float, worst: float | None, latency: float,
    longest: float,
) -> None:  # fmt: skip
    span.parts[verdict] += int(parts)
    span.score_sum += score
    span.latency_sum += latency
    span.latency_max = max(longest, span.latency_max or 0.0)
    if worst is not None:
        span.score_max = worst if span.score_max is None else max(worst, span.score_max)


def _now() -> int:
    return int(time.time()) // HOUR


def _first(hours: int) -> int:
    return _now() - hours + 1
