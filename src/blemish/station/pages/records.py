"""What the pages look up beside the API's own queries: all that was said and done about a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from blemish.station.core import Station
from blemish.station.store import Database
from blemish.station.store.tables import (
    CandidateRow,
    ChangeRow,
    DecisionRow,
    InspectionRow,
    RegressionRow,
    ThresholdRow,
)


@dataclass(frozen=True)
class Said:
    """Everything that people said of a part, and what it was judged by."""

    decisions: list[DecisionRow]  # newest first
    candidates: list[CandidateRow]
    regression: RegressionRow | None
    thresholds: ThresholdRow | None


def said(database: Database, row: InspectionRow) -> Said:
    """What people said of a part."""
    with database.reading() as session:
        return Said(
            list(
                session.scalars(
                    select(DecisionRow)
                    .filter_by(inspection_id=row.id)
                    .order_by(DecisionRow.id.desc())
                )
            ),
            list(
                session.scalars(
                    select(CandidateRow)
                    .filter_by(inspection_id=row.id)
                    .order_by(CandidateRow.id.desc())
                )
            ),
            session.scalar(
                select(RegressionRow).filter_by(
                    inspector=row.inspector, image_sha256=row.image_sha256, removed_at=None
                )
            ),
            session.get(ThresholdRow, row.threshold_id),
        )


def beside(database: Database, row: InspectionRow) -> tuple[str | None, str | None]:
    """The parts of this inspector before and after a part."""
    query = select(InspectionRow.id).filter_by(inspector=row.inspector)
    with database.reading() as session:
        before = session.scalar(
            query.where(InspectionRow.id < row.id).order_by(InspectionRow.id.desc()).limit(1)
        )
        after = session.scalar(
            query.where(InspectionRow.id > row.id).order_by(InspectionRow.id).limit(1)
        )
    return before, after


def change_of(database: Database, candidate: CandidateRow) -> ChangeRow | None:
    """The newest change, made or refused, that a candidate led to."""
    query = (
        select(ChangeRow)
        .filter_by(inspector=candidate.inspector, kind="update")
        .where(ChangeRow.note.startswith(f"candidate {candidate.id}", autoescape=True))
        .order_by(ChangeRow.id.desc())
    )
    with database.reading() as session:
        return session.scalar(query.limit(1))


def scores(station: Station, inspector: str) -> dict[str, Any]:
    """The calibration scores and thresholds of an inspector's live version, for a chart."""
    held = station.shelf.get(inspector)
    calibration = held.inspector.calibration
    return {
        "version": held.live.version,
        "scores": [] if calibration is None else list(calibration.scores),
        "threshold": held.live.thresholds.threshold,
        "review": held.live.thresholds.review_threshold,
        "method": None if calibration is None else calibration.method,
    }
