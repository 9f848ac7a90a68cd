"""Inspections: written once with all that goes with them, found again by filters and a cursor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Select, false, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blemish.station.errors import ReusedKeyError, StationError, UnknownError
from blemish.station.store.filters import Filter, newest
from blemish.station.store.opening import Database
from blemish.station.store.tables import (
    DecisionRow,
    DeliveryRow,
    InspectionRow,
    QueueRow,
    Table,
    TallyRow,
    ThresholdRow,
    VersionRow,
)
from blemish.station.store.types import new_id, now, storable

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
    region_level: float | None = None
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
class Page:
    """Some inspections, newest first, and the cursor of those that follow (None: no more)."""

    inspections: list[Judged]
    following: str | None


# Writing --------------------------------------------------------------------------------


def record(database: Database, draft: Draft) -> tuple[Judged, bool]:
    """Write an inspection with its tally and its deliveries, all or nothing; False: it was there.

    A request key that was recorded already gives that inspection; raises ReusedKeyError where
    it came with another request, StationError for text that no database keeps.
    """
    _check_texts(draft)
    if draft.request_key is not None and (found := by_request(database, draft)) is not None:
        return found, False
    try:
        with database.writing() as session:
            return Judged(_written(session, draft), draft.live.bundle_sha256), True
    except IntegrityError:
        # Another station recorded the same request just now.
        found = None if draft.request_key is None else by_request(database, draft)
        if found is None:
            raise
        return found, False


def _check_texts(draft: Draft) -> None:
    for name in ("part_id", "correlation_id", "image", "extra"):
        if not storable(getattr(draft, name)):
            raise StationError(
                f"the {'metadata' if name == 'extra' else name} of this part has a NUL, half a "
                "character or a number that is none; no database keeps that, so leave it out"
            )


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
    if row.verdict == "review":
        session.add(
            QueueRow(inspection_id=row.id, inspector=row.inspector, nearness=row.nearness or 0.0)
        )
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
    return _seen(session, VersionRow, key, {"version": live.version, "created": live.created})


def _threshold_id(session: Session, live: Live) -> int:
    key = {"inspector": live.inspector, "digest": live.thresholds.digest}
    values = {one.name: getattr(live.thresholds, one.name) for one in fields(live.thresholds)}
    return _seen(session, ThresholdRow, key, values)


def _seen(
    session: Session,
    table: type[VersionRow | ThresholdRow],
    key: dict[str, Any],
    values: dict[str, Any],
) -> int:
    """The id of the row with this unique key, written if there is none."""
    query = select(table.id).filter_by(**key)
    found = session.scalar(query)
    if found is None:
        # Another station may see it for the first time just now: the one that is late waits.
        new = _insert(session, table).values(**key, **values, seen_at=now())
        session.execute(new.on_conflict_do_nothing(index_elements=list(key)))
        found = session.scalars(query).one()
    return found


def _insert(session: Session, table: type[Table]) -> Any:
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return (sqlite if is_sqlite else postgresql).insert(table)


def _tally(session: Session, row: InspectionRow) -> None:
    values = {
        "hour": int(row.recorded_at.timestamp()) // HOUR, "station": row.station,
        "inspector": row.inspector, "version": row.version, "verdict": row.verdict, "parts": 1,
        "score_sum": row.score or 0.0, "score_max": row.score,
        "latency_sum": row.latency_ms, "latency_max": row.latency_ms,
    }  # fmt: skip
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    insert = _insert(session, TallyRow)
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
    found: list[Judged] = []
    if storable(key):
        with database.reading() as session:
            found = _judged(session, _joined().where(InspectionRow.id == key))
    if not found:
        raise UnknownError(f"there is no inspection '{key[:80]}' in this store")
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
    with database.reading() as session:
        keys = newest(session, wanted, limit + 1, after)
        shown = keys[:limit]
        query = _joined().where(InspectionRow.id.in_(shown)).order_by(InspectionRow.id.desc())
        found = _judged(session, query) if shown else []
    return Page(found, shown[-1] if len(keys) > limit else None)


def awaiting(
    database: Database, *, inspector: str | None = None, limit: int = 50, skip: Iterable[str] = ()
) -> list[Judged]:
    """The review queue: parts that a person has not decided yet, nearest to the threshold first."""
    row = QueueRow
    query = _of_inspector(select(row.inspection_id), inspector)
    if left_out := list(skip):
        query = query.where(row.inspection_id.not_in(left_out))
    nearest = query.order_by(row.nearness, row.inspection_id).limit(limit)
    with database.reading() as session:
        keys = list(session.scalars(nearest))
        found = _judged(session, _joined().where(InspectionRow.id.in_(keys))) if keys else []
    place = {key: index for index, key in enumerate(keys)}
    return sorted(found, key=lambda judged: place[judged.row.id])


def count_awaiting(database: Database, *, inspector: str | None = None) -> int:
    """How many parts are in the review queue."""
    query = _of_inspector(select(func.count()).select_from(QueueRow), inspector)
    with database.reading() as session:
        return session.scalar(query) or 0


def _of_inspector(query: Select[Any], inspector: str | None) -> Select[Any]:
    if inspector is None:
        return query
    return query.where(QueueRow.inspector == inspector if storable(inspector) else false())


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
