"""Inspections: written once with all that goes with them, found again by filters and a cursor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from blemish.station.errors import ReusedKeyError, UnknownError
from blemish.station.store.opening import Database
from blemish.station.store.tables import (
    DecisionRow,
    DeliveryRow,
    InspectionRow,
    TallyRow,
    ThresholdRow,
    VersionRow,
)
from blemish.station.store.types import least_id, new_id, now

HOUR = 3600


@dataclass(frozen=True)
class Thresholds:
    """What a version judges by."""

    threshold: float | None = None
    review_threshold: float | None = None
    promise: str | None = None
    false_alarm_rate: float | None = None
    confidence: float | None = None
    review_rate: float | None = None

    @property
    def digest(self) -> str:
        """The same for the same values."""
        values = [getattr(self, one.name) for one in fields(self)]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@dataclass(frozen=True)
class Live:
    """A version that judges parts: its bundle's checksum, when it was made, its thresholds."""

    inspector: str
    version: int
    bundle_sha256: str
    created: str
    thresholds: Thresholds


@dataclass(frozen=True)
class Draft:
    """An inspection that is not recorded yet; the fields are the columns of the same names."""

    station: str
    source: str
    live: Live
    image_sha256: str
    verdict: str
    latency_ms: float
    id: str = field(default_factory=new_id)
    part_id: str | None = None
    correlation_id: str | None = None
    image: str | None = None
    width: int | None = None
    height: int | None = None
    score: float | None = None
    p_value: float | None = None
    reason: str | None = None
    regions: Sequence[dict[str, Any]] = ()
    map_sha256: str | None = None
    matrix: list[list[float]] | None = None
    brightness: float | None = None
    sharpness: float | None = None
    residual: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    error_code: str | None = None
    error_message: str | None = None
    request_key: str | None = None
    request_sha256: str | None = None
    sinks: Sequence[str] = ()  # that the result is to be delivered to


@dataclass(frozen=True)
class Judged:
    """An inspection as it is in the store: its row, its bundle's checksum, the newest decision."""

    row: InspectionRow
    bundle_sha256: str
    decision: DecisionRow | None = None


@dataclass(frozen=True)
class Filter:
    """Which inspections; `decided` is whether a person has said what it is.

    `since` and `until` are compared with the time of recording, to the millisecond.
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


@dataclass(frozen=True)
class Page:
    """Some inspections, newest first, and the cursor of those that follow (None: no more)."""

    inspections: list[Judged]
    following: str | None


# Writing --------------------------------------------------------------------------------


def record(database: Database, draft: Draft) -> tuple[Judged, bool]:
    """Write an inspection with its tally and its deliveries, all or nothing; False: it was there.

    A request key that was recorded already gives that inspection; raises ReusedKeyError where
    it came with another request.
    """
    for _ in range(2):
        if draft.request_key is not None and (found := by_request(database, draft)) is not None:
            return found, False
        try:
            with database.writing() as session:
                return Judged(_written(session, draft), draft.live.bundle_sha256), True
        except IntegrityError:
            # Another station recorded the same request, or saw the same version, just now.
            if draft.request_key is None:
                continue
    with database.writing() as session:
        return Judged(_written(session, draft), draft.live.bundle_sha256), True


def by_request(database: Database, draft: Draft) -> Judged | None:
    """The inspection that a request key has led to before."""
    assert draft.request_key is not None
    return of_request(database, draft.request_key, draft.request_sha256)


def of_request(database: Database, key: str, digest: str | None) -> Judged | None:
    """The inspection of a request key; raises ReusedKeyError if that was another request."""
    with database.reading() as session:
        found = _judged(session, _joined().where(InspectionRow.request_key == key))
    if not found:
        return None
    if found[0].row.request_sha256 != digest:
        raise ReusedKeyError(
            "this Idempotency-Key was used for another request before; give each part a key of "
            "its own, and the same one only to repeat a request"
        )
    return found[0]


def _written(session: Session, draft: Draft) -> InspectionRow:
    live, thresholds = draft.live, draft.live.thresholds
    names = {column.key for column in InspectionRow.__mapper__.column_attrs}
    values = {one.name: getattr(draft, one.name) for one in fields(draft) if one.name in names}
    row = InspectionRow(
        **values | {"regions": list(draft.regions)},
        recorded_at=now(),
        inspector=live.inspector,
        version=live.version,
        version_id=_version_id(session, live),
        threshold_id=_threshold_id(session, live),
        threshold=thresholds.threshold,
        review_threshold=thresholds.review_threshold,
        nearness=nearness(draft.score, thresholds.threshold),
    )
    session.add(row)
    session.flush()
    _tally(session, row)
    for sink in draft.sinks:
        session.add(
            DeliveryRow(
                id=new_id(), inspection_id=row.id, station=row.station, sink=sink, state="waiting",
                tries=0, next_try=row.recorded_at,
            )
        )  # fmt: skip
    return row


def nearness(score: float | None, threshold: float | None) -> float | None:
    """How far a score is from the threshold, in thresholds; 0 where there is none."""
    if score is None:
        return None
    if threshold is None:
        return 0.0
    return abs(score - threshold) / max(abs(threshold), 1e-12)


def _version_id(session: Session, live: Live) -> int:
    key = {"inspector": live.inspector, "bundle_sha256": live.bundle_sha256}
    found = session.scalar(select(VersionRow.id).filter_by(**key))
    if found is not None:
        return found
    row = VersionRow(**key, version=live.version, created=live.created, seen_at=now())
    session.add(row)
    session.flush()
    return row.id


def _threshold_id(session: Session, live: Live) -> int:
    key = {"inspector": live.inspector, "digest": live.thresholds.digest}
    found = session.scalar(select(ThresholdRow.id).filter_by(**key))
    if found is not None:
        return found
    values = {one.name: getattr(live.thresholds, one.name) for one in fields(live.thresholds)}
    row = ThresholdRow(**key, **values, seen_at=now())
    session.add(row)
    session.flush()
    return row.id


def _tally(session: Session, row: InspectionRow) -> None:
    values = {
        "hour": int(row.recorded_at.timestamp()) // HOUR, "station": row.station,
        "inspector": row.inspector, "version": row.version, "verdict": row.verdict, "parts": 1,
        "score_sum": row.score or 0.0, "score_max": row.score,
        "latency_sum": row.latency_ms, "latency_max": row.latency_ms,
    }  # fmt: skip
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    insert: Any = (sqlite if is_sqlite else postgresql).insert(TallyRow)
    table, new = TallyRow.__table__.c, insert.excluded
    # SQLite's max() of two values is NULL if one is; PostgreSQL's greatest() leaves NULL out.
    worst = (
        func.max(
            func.coalesce(table.score_max, new.score_max),
            func.coalesce(new.score_max, table.score_max),
        )
        if is_sqlite
        else func.greatest(table.score_max, new.score_max)
    )
    longest = (func.max if is_sqlite else func.greatest)(table.latency_max, new.latency_max)
    session.execute(
        insert.values(**values).on_conflict_do_update(
            index_elements=["hour", "station", "inspector", "version", "verdict"],
            set_={
                "parts": table.parts + 1,
                "score_sum": table.score_sum + new.score_sum,
                "score_max": worst,
                "latency_sum": table.latency_sum + new.latency_sum,
                "latency_max": longest,
            },
        )
    )


# Reading --------------------------------------------------------------------------------


def find(database: Database, key: str) -> Judged:
    """One inspection; raises UnknownError."""
    with database.reading() as session:
        found = _judged(session, _joined().where(InspectionRow.id == key))
    if not found:
        raise UnknownError(f"there is no inspection '{key}' in this store")
    return found[0]


def several(database: Database, keys: Iterable[str]) -> dict[str, Judged]:
    """Those of these inspections that are in the store, by id."""
    with database.reading() as session:
        found = _judged(session, _joined().where(InspectionRow.id.in_(list(keys))))
    return {judged.row.id: judged for judged in found}


def is_recorded(database: Database, request_key: str) -> bool:
    """Whether a request was recorded already, whatever came of it."""
    with database.reading() as session:
        query = select(InspectionRow.id).where(InspectionRow.request_key == request_key)
        return session.scalar(query) is not None


def listed(
    database: Database, wanted: Filter, *, limit: int = 50, after: str | None = None
) -> Page:
    """Inspections, newest first; `after` is the cursor of the page before."""
    query = _filtered(_joined(), wanted).order_by(InspectionRow.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(InspectionRow.id < after)
    with database.reading() as session:
        found = _judged(session, query)
    return Page(found[:limit], found[limit - 1].row.id if len(found) > limit else None)


def awaiting(
    database: Database, *, inspector: str | None = None, limit: int = 50, skip: Iterable[str] = ()
) -> list[Judged]:
    """The review queue: parts that a person has not decided yet, nearest to the threshold first."""
    undecided = ~exists().where(DecisionRow.inspection_id == InspectionRow.id)
    query = _joined().where(InspectionRow.verdict == "review", undecided)
    if inspector is not None:
        query = query.where(InspectionRow.inspector == inspector)
    if left_out := list(skip):
        query = query.where(InspectionRow.id.not_in(left_out))
    query = query.order_by(InspectionRow.nearness, InspectionRow.id).limit(limit)
    with database.reading() as session:
        return _judged(session, query)


def count_awaiting(database: Database, *, inspector: str | None = None) -> int:
    """How many parts are in the review queue."""
    undecided = ~exists().where(DecisionRow.inspection_id == InspectionRow.id)
    query = (
        select(func.count())
        .select_from(InspectionRow)
        .where(InspectionRow.verdict == "review", undecided)
    )
    if inspector is not None:
        query = query.where(InspectionRow.inspector == inspector)
    with database.reading() as session:
        return session.scalar(query) or 0


def _joined() -> Any:
    return select(InspectionRow, VersionRow.bundle_sha256).join(
        VersionRow, VersionRow.id == InspectionRow.version_id
    )


def _judged(session: Session, query: Select[Any]) -> list[Judged]:
    rows = session.execute(query).all()
    if not rows:
        return []
    decisions: dict[str, DecisionRow] = {}
    keys = [row.id for row, _ in rows]
    for decision in session.scalars(
        select(DecisionRow).where(DecisionRow.inspection_id.in_(keys)).order_by(DecisionRow.id)
    ):
        decisions[decision.inspection_id] = decision
    return [Judged(row, sha, decisions.get(row.id)) for row, sha in rows]


def _filtered(query: Select[Any], wanted: Filter) -> Select[Any]:
    row = InspectionRow
    equal = ("inspector", "version", "verdict", "station", "source", "part_id", "image_sha256")
    for name in equal:
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(row, name) == value)
    # Ids are in the order of time, so that a span of time is a span of the key.
    if wanted.since is not None:
        query = query.where(row.id >= least_id(wanted.since))
    if wanted.until is not None:
        query = query.where(row.id < least_id(wanted.until))
    if wanted.min_score is not None:
        query = query.where(row.score >= wanted.min_score)
    if wanted.max_score is not None:
        query = query.where(row.score <= wanted.max_score)
    if wanted.decided is not None:
        decided = exists().where(DecisionRow.inspection_id == row.id)
        query = query.where(decided if wanted.decided else ~decided)
    if wanted.decision is not None:
        later = aliased(DecisionRow)
        newest = ~exists().where(
            and_(later.inspection_id == DecisionRow.inspection_id, later.id > DecisionRow.id)
        )
        query = query.where(
            exists().where(
                DecisionRow.inspection_id == row.id,
                DecisionRow.decision == wanted.decision,
                newest,
            )
        )
    return query
