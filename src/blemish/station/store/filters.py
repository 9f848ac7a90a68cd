"""Which inspections are wanted, and the quickest way to the newest of them.

Databases guess how many rows a condition leaves, and guess badly where many are old or none are
there. So each kind of filter goes the way that is never slow: scores through their own index,
what people decided from the decisions, combinations that never were by the tallies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, UnaryExpression, exists, false, select
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import operators

from blemish.station.store.tables import DecisionRow, InspectionRow, QueueRow, TallyRow
from blemish.station.store.types import least_id, storable

_EQUAL = ("inspector", "version", "verdict", "station", "source", "part_id", "image_sha256")
_TALLIED = ("inspector", "version", "verdict", "station")
_LOOKED_AT = 500  # newest parts in which scores are looked for before the index of scores
_RARE = ("fail", "error")  # verdicts of fewer parts than people decide, who look at those in review
_LARGEST = 2**31 - 1  # of a version


@dataclass(frozen=True)
class Filter:
    """Which inspections; `decided` is whether a person has said what it is.

    `since` and `until` are compared with the time of arrival, to the millisecond; `decision` with
    the newest decision.
    """

    inspector: str | None = None
    version: int | None = None
    verdict: str | None = None
    station: str | None = None
    source: str | None = None
    part_id: str | None = None
    image_sha256: str | None = None
    decided: bool | None = None
    decision: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_score: float | None = None
    max_score: float | None = None

    @property
    def possible(self) -> bool:
        """Whether there could be such an inspection at all: databases refuse some values."""
        texts = [getattr(self, name) for name in _EQUAL if name != "version"]
        if not all(storable(text) for text in [*texts, self.decision]):
            return False
        if self.version is not None and not 0 <= self.version <= _LARGEST:
            return False
        if self.decided is False and self.decision is not None:
            return False
        return not any(
            value is not None and math.isnan(value) for value in (self.min_score, self.max_score)
        )


def newest(session: Session, wanted: Filter, limit: int, after: str | None) -> list[str]:
    """The ids of the newest wanted inspections, newest first; older than `after`, if given."""
    if not wanted.possible or not storable(after) or _never_was(session, wanted):
        return []
    query = _newest(session, wanted, after)
    if wanted.min_score is None and wanted.max_score is None:
        return list(session.scalars(query.limit(limit)))
    seen = query.add_columns(InspectionRow.score).limit(_LOOKED_AT)
    near = [(key, score) for key, score in session.execute(seen)]
    found = [key for key, score in near if _between(score, wanted)]
    if len(found) >= limit or len(near) < _LOOKED_AT:
        return found[:limit]
    return list(session.scalars(_by_score(session, wanted, after).limit(limit)))


def conditions(query: Select[Any], wanted: Filter) -> Select[Any]:
    """A query of inspections with all that is wanted of them, for those who read them all."""
    if not wanted.possible:
        return query.where(false())
    return _decided(_scores(_plain(query, wanted, InspectionRow.id), wanted), wanted)


def _decided(query: Select[Any], wanted: Filter) -> Select[Any]:
    if wanted.decided is not None:
        decided = exists().where(DecisionRow.inspection_id == InspectionRow.id)
        query = query.where(decided if wanted.decided else ~decided)
    if wanted.decision is not None:
        said = exists().where(
            DecisionRow.inspection_id == InspectionRow.id,
            DecisionRow.decision == wanted.decision,
            _newest_decision(),
        )
        query = query.where(said)
    return query


def _newest(session: Session, wanted: Filter, after: str | None) -> Select[Any]:
    """Ids, newest first, whatever the score."""
    row = InspectionRow
    is_decided = wanted.decision is not None or wanted.decided is True
    if is_decided and wanted.verdict not in _RARE:
        # From the few decisions to their inspections, not the other way round.
        key: Any = DecisionRow.inspection_id
        query = select(key).join(row, row.id == key).where(_newest_decision())
        if wanted.decision is not None:
            query = query.where(DecisionRow.decision == wanted.decision)
    elif wanted.decided is False and wanted.verdict == "review":
        key = QueueRow.inspection_id
        query = select(key).join(row, row.id == key)
    else:
        query = _decided(_plain(select(row.id), wanted, row.id, after), wanted)
        return query.order_by(row.id.desc())
    return _plain(query, wanted, key, after, pinned=_is_sqlite(session)).order_by(key.desc())


def _by_score(session: Session, wanted: Filter, after: str | None) -> Select[Any]:
    """Ids, newest first, by the index of scores: all of a span are read, then sorted."""
    pinned = _is_sqlite(session)
    key: Any = _unindexed(InspectionRow.id) if pinned else InspectionRow.id
    query = _scores(_plain(select(InspectionRow.id), wanted, key, after, pinned=pinned), wanted)
    query = _decided(query, wanted)
    if pinned:
        return query.order_by(key.desc())
    # PostgreSQL would go by time and hope for many: here it must find them first.
    found = query.cte("found").prefix_with("MATERIALIZED").c[0]
    return select(found).order_by(found.desc())


def _plain(
    query: Select[Any], wanted: Filter, key: Any, after: str | None = None, *, pinned: bool = False
) -> Select[Any]:
    """With what is equal and the span of time; `pinned`: by no index of what is equal."""
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None:
            column = getattr(InspectionRow, name)
            query = query.where((_unindexed(column) if pinned else column) == value)
    # Ids are in the order of time, so that a span of time is a span of the key.
    if wanted.since is not None:
        query = query.where(key >= least_id(wanted.since))
    if wanted.until is not None:
        query = query.where(key < least_id(wanted.until))
    return query if after is None else query.where(key < after)


def _unindexed(column: Any) -> Any:
    """A column that SQLite must not choose an index for (its unary plus changes nothing)."""
    return UnaryExpression(column, operator=operators.custom_op("+"), type_=column.type)


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def _scores(query: Select[Any], wanted: Filter) -> Select[Any]:
    if wanted.min_score is not None:
        query = query.where(InspectionRow.score >= wanted.min_score)
    if wanted.max_score is not None:
        query = query.where(InspectionRow.score <= wanted.max_score)
    return query


def _between(score: float | None, wanted: Filter) -> bool:
    low = -math.inf if wanted.min_score is None else wanted.min_score
    high = math.inf if wanted.max_score is None else wanted.max_score
    return score is not None and low <= score <= high


def _newest_decision() -> Any:
    later = aliased(DecisionRow)
    return ~exists().where(
        later.inspection_id == DecisionRow.inspection_id, later.id > DecisionRow.id
    )


def _never_was(session: Session, wanted: Filter) -> bool:
    """Whether no part was ever counted with these values; tallies outlive the inspections."""
    given = [name for name in _TALLIED if getattr(wanted, name) is not None]
    if len(given) < 2:
        return False  # an index of its own tells as quickly
    query = select(TallyRow.parts).filter_by(**{name: getattr(wanted, name) for name in given})
    return session.scalar(query.limit(1)) is None
