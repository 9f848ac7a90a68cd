"""The tables. What machines found and what people said are kept apart; inspections never change.

Migrations (migrations/) make and alter them; a test holds the two equal.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from blemish.station.store.types import Structured, UtcTime

# SQLite counts up only INTEGER keys.
Serial = BigInteger().with_variant(Integer, "sqlite")
Key = String(36)
Name = String(255)
Sha256 = String(64)


class Table(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy
        datetime: UtcTime(),
        dict[str, Any]: Structured,
        list[Any]: Structured,
        float: Float(53),
    }


class VersionRow(Table):
    """A version of a bundle that judged parts: what was live, told by its manifest's checksum."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("inspector", "bundle_sha256"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    inspector: Mapped[str] = mapped_column(Name)
    version: Mapped[int]
    bundle_sha256: Mapped[str] = mapped_column(Sha256)
    created: Mapped[str] = mapped_column(String(40))
    seen_at: Mapped[datetime]


class ThresholdRow(Table):
    """What verdicts were given by, and what was promised of it."""

    __tablename__ = "thresholds"
    __table_args__ = (UniqueConstraint("inspector", "digest"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    inspector: Mapped[str] = mapped_column(Name)
    digest: Mapped[str] = mapped_column(Sha256)  # of the values below, which may be NULL
    threshold: Mapped[float | None]
    review_threshold: Mapped[float | None]
    promise: Mapped[str | None] = mapped_column(String(16))
    false_alarm_rate: Mapped[float | None]
    confidence: Mapped[float | None]
    review_rate: Mapped[float | None]
    seen_at: Mapped[datetime]


class InspectionRow(Table):
    """One inspected image. Written once; a trigger refuses every change."""

    __tablename__ = "inspections"
    __table_args__ = (
        Index("ix_inspections_inspector", "inspector", "id"),
        Index("ix_inspections_verdict", "verdict", "id"),
        Index("ix_inspections_inspector_verdict", "inspector", "verdict", "id"),
        Index("ix_inspections_inspector_version", "inspector", "version", "id"),
        Index("ix_inspections_version", "version", "id"),
        Index("ix_inspections_station", "station", "id"),
        Index("ix_inspections_station_inspector", "station", "inspector", "id"),
        Index("ix_inspections_source", "source", "id"),
        Index("ix_inspections_part", "part_id", "id"),
        # Spans of scores are read from here alone, then sorted by time.
        Index("ix_inspections_score", "score", "inspector", "verdict", "id"),
        # By the pictures that retention looks at.
        Index("ix_inspections_image", "image_sha256"),
        Index("ix_inspections_map", "map_sha256"),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)  # UUIDv7: in the order of time
    recorded_at: Mapped[datetime]
    station: Mapped[str] = mapped_column(Name)
    source: Mapped[str] = mapped_column(Name)  # `http`, or the name of a source
    inspector: Mapped[str] = mapped_column(Name)
    version: Mapped[int]
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    threshold_id: Mapped[int] = mapped_column(ForeignKey("thresholds.id"))
    part_id: Mapped[str | None] = mapped_column(Name)
    correlation_id: Mapped[str | None] = mapped_column(Name)
    image: Mapped[str | None] = mapped_column(Text)  # the name it came with
    image_sha256: Mapped[str] = mapped_column(Sha256)
    width: Mapped[int | None]
    height: Mapped[int | None]
    score: Mapped[float | None]  # raw; NULL for an image that could not be read
    p_value: Mapped[float | None]
    threshold: Mapped[float | None]
    review_threshold: Mapped[float | None]
    verdict: Mapped[str] = mapped_column(String(8))  # pass, review, fail, error
    reason: Mapped[str | None] = mapped_column(Text)
    # |score - threshold| / |threshold|: comparable between inspectors; 0 without a threshold.
    nearness: Mapped[float | None]
    regions: Mapped[list[Any]]
    region_level: Mapped[float | None]  # what they lie above, on the map
    map_sha256: Mapped[str | None] = mapped_column(Sha256)
    matrix: Mapped[list[Any] | None]  # 3 x 3, map to image pixels; NULL: the map covers it
    brightness: Mapped[float | None]
    sharpness: Mapped[float | None]
    residual: Mapped[float | None]
    extra: Mapped[dict[str, Any]] = mapped_column("metadata")  # what the sender said of it
    timings: Mapped[dict[str, Any]]  # ms by stage
    latency_ms: Mapped[float]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    request_key: Mapped[str | None] = mapped_column(Sha256, unique=True)
    request_sha256: Mapped[str | None] = mapped_column(Sha256)


class QueueRow(Table):
    """A part in review that no person has decided yet: the review queue, however much was decided.

    Written with the inspection; the first decision takes it away (a trigger).
    """

    __tablename__ = "review_queue"
    __table_args__ = (
        # Nearest to the threshold first.
        Index("ix_review_queue_nearness", "nearness", "inspection_id"),
        Index("ix_review_queue_inspector", "inspector", "nearness", "inspection_id"),
    )

    inspection_id: Mapped[str] = mapped_column(
        ForeignKey("inspections.id", ondelete="CASCADE"), primary_key=True
    )
    inspector: Mapped[str] = mapped_column(Name)
    nearness: Mapped[float]


class TallyRow(Table):
    """How many parts an hour, by station, inspector, version and verdict.

    Added to with every inspection, in its transaction: counts and trends need not read them all.
    """

    __tablename__ = "tallies"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - the rows lie by hour

    hour: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # hours since 1970
    station: Mapped[str] = mapped_column(Name, primary_key=True)
    inspector: Mapped[str] = mapped_column(Name, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    verdict: Mapped[str] = mapped_column(String(8), primary_key=True)
    parts: Mapped[int] = mapped_column(BigInteger)
    score_sum: Mapped[float]
    score_max: Mapped[float | None]
    latency_sum: Mapped[float]
    latency_max: Mapped[float]


class DecisionRow(Table):
    """What a person said of a part; the newest one counts, all are kept."""

    __tablename__ = "decisions"
    __table_args__ = (Index("ix_decisions_inspection", "inspection_id", "id"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    decision: Mapped[str] = mapped_column(String(8))  # pass, fail
    by: Mapped[str] = mapped_column(Name)
    note: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime]


class CandidateRow(Table):
    """A part proposed as a template: one person proposes, another approves or rejects."""

    __tablename__ = "candidates"
    __table_args__ = (
        Index("ix_candidates_state", "state", "id"),
        Index("ix_candidates_inspection", "inspection_id"),
        # Of one part at most one proposal waits.
        Index(
            "ux_candidates_waiting",
            "inspection_id",
            unique=True,
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    inspector: Mapped[str] = mapped_column(Name)
    state: Mapped[str] = mapped_column(String(10))  # waiting, working, approved, rejected
    proposed_by: Mapped[str] = mapped_column(Name)
    proposed_at: Mapped[datetime]
    note: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str | None] = mapped_column(Name)
    decided_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(Text)  # what the second person wrote
    version: Mapped[int | None]  # which it is a template of since


class RegressionRow(Table):
    """A part whose verdict is known, judged again before each new version goes live."""

    __tablename__ = "regression_parts"
    __table_args__ = (
        Index("ix_regression_inspector", "inspector", "removed_at"),
        Index("ix_regression_inspection", "inspection_id"),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    inspector: Mapped[str] = mapped_column(Name)
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    image_sha256: Mapped[str] = mapped_column(Sha256)
    expected: Mapped[str] = mapped_column(String(8))  # fail: a missed defect; pass: a false alarm
    added_by: Mapped[str] = mapped_column(Name)
    added_at: Mapped[datetime]
    note: Mapped[str] = mapped_column(Text)
    removed_by: Mapped[str | None] = mapped_column(Name)
    removed_at: Mapped[datetime | None]


class ChangeRow(Table):
    """A change of an inspector through the station, made or refused: who, why, and what came of it.

    `report` has the regression parts that each version gave which verdict.
    """

    __tablename__ = "changes"
    __table_args__ = (Index("ix_changes_inspector", "inspector", "id"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    inspector: Mapped[str] = mapped_column(Name)
    station: Mapped[str] = mapped_column(Name)
    kind: Mapped[str] = mapped_column(String(12))  # update, calibrate, threshold, rollback
    outcome: Mapped[str] = mapped_column(String(8))  # live, refused
    before: Mapped[int]
    after: Mapped[int | None]
    by: Mapped[str] = mapped_column(Name)
    proposed_by: Mapped[str | None] = mapped_column(Name)
    note: Mapped[str] = mapped_column(Text)
    report: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime]


class AlarmRow(Table):
    """Something has moved away from the calibration set: what, since when, seen by whom."""

    __tablename__ = "alarms"
    __table_args__ = (Index("ix_alarms_open", "inspector", "ended_at"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    station: Mapped[str] = mapped_column(Name)
    inspector: Mapped[str] = mapped_column(Name)
    measure: Mapped[str] = mapped_column(String(16))  # score, brightness, sharpness, residual, …
    message: Mapped[str] = mapped_column(Text)
    evidence: Mapped[dict[str, Any]]
    raised_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    seen_by: Mapped[str | None] = mapped_column(Name)
    seen_at: Mapped[datetime | None]


class DeliveryRow(Table):
    """A result on its way to a sink, written with the inspection so that neither goes alone."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(
            "ix_deliveries_due",
            "sink",
            "station",
            "id",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("ix_deliveries_state", "state", "id"),
        Index("ix_deliveries_inspection", "inspection_id"),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    inspection_id: Mapped[str] = mapped_column(ForeignKey("inspections.id"))
    station: Mapped[str] = mapped_column(Name)
    sink: Mapped[str] = mapped_column(Name)
    state: Mapped[str] = mapped_column(String(8))  # waiting, sent, dead
    tries: Mapped[int]
    next_try: Mapped[datetime]
    last_error: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime | None]


class TokenRow(Table):
    """Who may do what. Of the token itself only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    role: Mapped[str] = mapped_column(String(10))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class SessionRow(Table):
    """A browser that was signed in with a token."""

    __tablename__ = "sessions"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
