"""The first tables.

Revision 0001, after nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from blemish.station.store.tables import Serial
from blemish.station.store.types import Structured, UtcTime

revision = "0001"
down_revision = None

NEVER_CHANGED = "inspections never change: what a person says of one is a decision"


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("station", sa.String(length=255), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("measure", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evidence", Structured, nullable=False),
        sa.Column("raised_at", UtcTime(), nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.Column("seen_by", sa.String(length=255), nullable=True),
        sa.Column("seen_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_alarms_open", "alarms", ["inspector", "ended_at"], unique=False)
    op.create_table(
        "changes",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("station", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("before", sa.Integer(), nullable=False),
        sa.Column("after", sa.Integer(), nullable=True),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("proposed_by", sa.String(length=255), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("report", Structured, nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_changes_inspector", "changes", ["inspector", "id"], unique=False)
    op.create_table(
        "tallies",
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("station", sa.String(length=255), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("parts", sa.BigInteger(), nullable=False),
        sa.Column("score_sum", sa.Float(precision=53), nullable=False),
        sa.Column("score_max", sa.Float(precision=53), nullable=True),
        sa.Column("latency_sum", sa.Float(precision=53), nullable=False),
        sa.Column("latency_max", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("hour", "station", "inspector", "version", "verdict"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "thresholds",
        sa.Column("id", Serial, nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("review_threshold", sa.Float(precision=53), nullable=True),
        sa.Column("promise", sa.String(length=16), nullable=True),
        sa.Column("false_alarm_rate", sa.Float(precision=53), nullable=True),
        sa.Column("confidence", sa.Float(precision=53), nullable=True),
        sa.Column("review_rate", sa.Float(precision=53), nullable=True),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("inspector", "digest"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", Serial, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "versions",
        sa.Column("id", Serial, nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=False),
        sa.Column("created", sa.String(length=40), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("inspector", "bundle_sha256"),
    )
    op.create_table(
        "inspections",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("recorded_at", UtcTime(), nullable=False),
        sa.Column("station", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("version_id", Serial, nullable=False),
        sa.Column("threshold_id", Serial, nullable=False),
        sa.Column("part_id", sa.String(length=255), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("score", sa.Float(precision=53), nullable=True),
        sa.Column("p_value", sa.Float(precision=53), nullable=True),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("review_threshold", sa.Float(precision=53), nullable=True),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("nearness", sa.Float(precision=53), nullable=True),
        sa.Column("regions", Structured, nullable=False),
        sa.Column("region_level", sa.Float(precision=53), nullable=True),
        sa.Column("map_sha256", sa.String(length=64), nullable=True),
        sa.Column("matrix", Structured, nullable=True),
        sa.Column("brightness", sa.Float(precision=53), nullable=True),
        sa.Column("sharpness", sa.Float(precision=53), nullable=True),
        sa.Column("residual", sa.Float(precision=53), nullable=True),
        sa.Column("metadata", Structured, nullable=False),
        sa.Column("timings", Structured, nullable=False),
        sa.Column("latency_ms", sa.Float(precision=53), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("request_key", sa.String(length=64), nullable=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["threshold_id"],
            ["thresholds.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("request_key"),
    )
    op.create_index("ix_inspections_image", "inspections", ["image_sha256"], unique=False)
    op.create_index("ix_inspections_inspector", "inspections", ["inspector", "id"], unique=False)
    op.create_index(
        "ix_inspections_inspector_verdict",
        "inspections",
        ["inspector", "verdict", "id"],
        unique=False,
    )
    op.create_index(
        "ix_inspections_inspector_version",
        "inspections",
        ["inspector", "version", "id"],
        unique=False,
    )
    op.create_index("ix_inspections_map", "inspections", ["map_sha256"], unique=False)
    op.create_index("ix_inspections_part", "inspections", ["part_id", "id"], unique=False)
    op.create_index(
        "ix_inspections_score", "inspections", ["score", "inspector", "verdict", "id"], unique=False
    )
    op.create_index("ix_inspections_source", "inspections", ["source", "id"], unique=False)
    op.create_index("ix_inspections_station", "inspections", ["station", "id"], unique=False)
    op.create_index(
        "ix_inspections_station_inspector",
        "inspections",
        ["station", "inspector", "id"],
        unique=False,
    )
    op.create_index("ix_inspections_verdict", "inspections", ["verdict", "id"], unique=False)
    op.create_index("ix_inspections_version", "inspections", ["version", "id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("token_id", Serial, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["token_id"],
            ["tokens.id"],
        ),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "candidates",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("proposed_by", sa.String(length=255), nullable=False),
        sa.Column("proposed_at", UtcTime(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.String(length=255), nullable=True),
        sa.Column("decided_at", UtcTime(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspections.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_candidates_inspection", "candidates", ["inspection_id"], unique=False)
    op.create_index("ix_candidates_state", "candidates", ["state", "id"], unique=False)
    op.create_index(
        "ux_candidates_waiting",
        "candidates",
        ["inspection_id"],
        unique=True,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("decision", sa.String(length=8), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspections.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_decisions_inspection", "decisions", ["inspection_id", "id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("station", sa.String(length=255), nullable=False),
        sa.Column("sink", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try", UtcTime(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspections.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["sink", "station", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_deliveries_inspection", "deliveries", ["inspection_id"], unique=False)
    op.create_index("ix_deliveries_state", "deliveries", ["state", "id"], unique=False)
    op.create_table(
        "regression_parts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("expected", sa.String(length=8), nullable=False),
        sa.Column("added_by", sa.String(length=255), nullable=False),
        sa.Column("added_at", UtcTime(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("removed_by", sa.String(length=255), nullable=True),
        sa.Column("removed_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspections.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_regression_inspection", "regression_parts", ["inspection_id"], unique=False)
    op.create_index(
        "ix_regression_inspector", "regression_parts", ["inspector", "removed_at"], unique=False
    )
    op.create_table(
        "review_queue",
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("inspector", sa.String(length=255), nullable=False),
        sa.Column("nearness", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("inspection_id"),
    )
    op.create_index(
        "ix_review_queue_inspector",
        "review_queue",
        ["inspector", "nearness", "inspection_id"],
        unique=False,
    )
    op.create_index(
        "ix_review_queue_nearness", "review_queue", ["nearness", "inspection_id"], unique=False
    )

    _forbid_changes()
    _empty_queue()


def _forbid_changes() -> None:
    """Inspections are written once; only retention takes rows away."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER inspections_never_change BEFORE UPDATE ON inspections "
            f"BEGIN SELECT RAISE(ABORT, '{NEVER_CHANGED}'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION inspections_never_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{NEVER_CHANGED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER inspections_never_change BEFORE UPDATE ON inspections "
        "FOR EACH ROW EXECUTE FUNCTION inspections_never_change()"
    )


def _empty_queue() -> None:
    """A part that a person has decided leaves the review queue, whoever writes the decision."""
    taken = "DELETE FROM review_queue WHERE inspection_id = NEW.inspection_id;"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER decided_parts_leave AFTER INSERT ON decisions BEGIN {taken} END"
        )
        return
    op.execute(
        "CREATE FUNCTION decided_parts_leave() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {taken} RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER decided_parts_leave AFTER INSERT ON decisions "
        "FOR EACH ROW EXECUTE FUNCTION decided_parts_leave()"
    )
