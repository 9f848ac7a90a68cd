"""Made-up rows of a station's database, very many, as a plant would leave them in three months."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert, text

from blemish.station.store import Database
from blemish.station.store.inspections import Live, Thresholds, nearness
from blemish.station.store.tables import (
    AlarmRow,
    DecisionRow,
    InspectionRow,
    QueueRow,
    Table,
    TallyRow,
    ThresholdRow,
    VersionRow,
)
from blemish.station.store.types import least_id

DAYS = 90
CHUNK = 10_000
INSPECTORS = tuple(f"part-{letter}" for letter in "abcdef")
STATIONS = ("line-1", "line-2", "line-3")
VERSIONS = 4  # that each inspector had, one after the other
_SHARES = {"pass": 0.945, "review": 0.03, "fail": 0.024, "error": 0.001}
_DECIDED = 0.95  # of the parts in review that are older than a day


def fill(database: Database, rows: int, seed: int, end: datetime | None = None) -> datetime:
    """Write `rows` inspections that end at `end`, with decisions and tallies; returns `end`."""
    end = end or datetime.now(UTC)
    _write(database, VersionRow, [_version(*key) for key in _keys()])
    _write(database, ThresholdRow, [_threshold(*key) for key in _keys()])
    tallies: dict[tuple[Any, ...], list[float]] = {}
    for chunk in _chunks(rows, seed, end):
        _write(database, InspectionRow, chunk)
        decisions = list(_decisions(chunk, end, seed))
        _write(database, DecisionRow, decisions)
        _write(database, QueueRow, _queue(chunk, {one["inspection_id"] for one in decisions}))
        for row in chunk:
            _tally(tallies, row)
    names = ("hour", "station", "inspector", "version", "verdict")
    sums = ("parts", "score_sum", "score_max", "latency_sum", "latency_max")
    _write(
        database,
        TallyRow,
        [
            dict(zip(names, key, strict=True)) | dict(zip(sums, found, strict=True))
            for key, found in tallies.items()
        ],
    )
    _write(database, AlarmRow, [_alarm(index, end) for index in range(40)])
    if database.name == "postgresql":
        # As autovacuum would have done by then.
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
            one.execute(text("VACUUM ANALYZE"))
    return end


def _keys() -> list[tuple[int, int]]:
    return [(kind, version) for kind in range(len(INSPECTORS)) for version in range(VERSIONS)]


def _number(kind: int, version: int) -> int:
    return kind * VERSIONS + version + 1


def _limits(kind: int, version: int) -> Thresholds:
    limit = 1.0 + 0.3 * kind + 0.05 * version
    return Thresholds(limit, limit * 0.9, "average", 0.01, None, 0.05)


def _live(kind: int, version: int) -> Live:
    digest = hashlib.sha256(f"{kind}/{version}".encode()).hexdigest()
    created = "2026-01-01T00:00:00Z"
    return Live(INSPECTORS[kind], version + 1, digest, created, _limits(kind, version))


def _version(kind: int, version: int) -> dict[str, Any]:
    live = _live(kind, version)
    return {
        "id": _number(kind, version), "inspector": live.inspector, "version": live.version,
        "bundle_sha256": live.bundle_sha256, "created": live.created, "seen_at": datetime.now(UTC),
    }  # fmt: skip


def _threshold(kind: int, version: int) -> dict[str, Any]:
    live = _live(kind, version)
    return {
        "id": _number(kind, version), "inspector": live.inspector, "digest": live.thresholds.digest,
        "seen_at": datetime.now(UTC), **vars(live.thresholds),
    }  # fmt: skip


def _chunks(rows: int, seed: int, end: datetime) -> Iterator[list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    step = timedelta(days=DAYS) / rows
    for begin in range(0, rows, CHUNK):
        count = min(CHUNK, rows - begin)
        kinds = rng.integers(len(INSPECTORS), size=count)
        verdicts = rng.choice(list(_SHARES), p=list(_SHARES.values()), size=count)
        spread = rng.random((count, 6))
        yield [
            _inspection(begin + place, rows, end - step * (rows - begin - place), int(kinds[place]),
                        str(verdicts[place]), spread[place])
            for place in range(count)
        ]  # fmt: skip


def _inspection(
    index: int, rows: int, moment: datetime, kind: int, verdict: str, spread: Any
) -> dict[str, Any]:
    version = index * VERSIONS // rows
    limits = _limits(kind, version)
    assert limits.threshold is not None
    assert limits.review_threshold is not None
    wrong, low, high = verdict == "error", limits.review_threshold, limits.threshold
    one = float(spread[0])
    score = {
        "pass": low * (0.3 + 0.7 * one),
        "review": low + (high - low) * one,
        "fail": high * (1 + one),
    }.get(verdict)  # fmt: skip
    image = hashlib.sha256(str(index).encode()).hexdigest()
    place = [int(200 * spread[1]), int(200 * spread[2]), 20, 12]
    return {
        "id": least_id(moment), "recorded_at": moment + timedelta(milliseconds=90),
        "station": STATIONS[kind % len(STATIONS)], "source": ("http", "camera")[kind % 2],
        "inspector": INSPECTORS[kind], "version": version + 1, "version_id": _number(kind, version),
        "threshold_id": _number(kind, version), "part_id": f"P{index:08d}",
        "correlation_id": f"P{index:08d}", "image": f"IMG_{index:08d}.png", "image_sha256": image,
        "width": None if wrong else 1024, "height": None if wrong else 1024, "score": score,
        "p_value": None if score is None else round(1 - one, 3), "threshold": limits.threshold,
        "review_threshold": limits.review_threshold, "verdict": verdict,
        "reason": "above the review threshold" if verdict == "review" else None,
        "nearness": nearness(score, limits.threshold),
        "regions": [{"box": place, "area": 180, "peak": score, "template": image[:16]}]
        if verdict in {"review", "fail"} else [],
        "map_sha256": None if wrong else image[::-1], "matrix": None,
        "brightness": None if wrong else 0.5 + 0.02 * float(spread[3]),
        "sharpness": None if wrong else 0.2 + 0.05 * float(spread[4]), "residual": None,
        "extra": {"batch": f"B{index // 500:05d}", "shift": index // 3000 % 3, "mould": kind},
        "timings": {"read": 4.1, "view": 2.3, "features": 48.9, "match": 30.2, "verdict": 1.4},
        "latency_ms": 80.0 + 30 * float(spread[5]) ** 4,
        "error_code": "image_truncated" if wrong else None,
        "error_message": "the image ends before its pixels do" if wrong else None,
        "request_key": image if index % 4 else None,
        "request_sha256": image if index % 4 else None,
    }  # fmt: skip


def _decisions(chunk: list[dict[str, Any]], end: datetime, seed: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng([seed, len(chunk), int(chunk[0]["recorded_at"].timestamp())])
    old = end - timedelta(days=1)
    for row in chunk:
        if row["verdict"] != "review" or row["recorded_at"] > old or rng.random() > _DECIDED:
            continue
        times = 2 if rng.random() < 0.1 else 1
        for again in range(times):
            moment = row["recorded_at"] + timedelta(hours=1 + again)
            yield {
                "id": least_id(moment)[:24] + row["id"][-12:-4] + f"{rng.integers(65536):04x}",
                "inspection_id": row["id"], "decision": "fail" if rng.random() < 0.3 else "pass",
                "by": "Ada", "note": "", "decided_at": moment,
            }  # fmt: skip


def _queue(chunk: list[dict[str, Any]], decided: set[str]) -> list[dict[str, Any]]:
    return [
        {"inspection_id": row["id"], "inspector": row["inspector"], "nearness": row["nearness"]}
        for row in chunk
        if row["verdict"] == "review" and row["id"] not in decided
    ]


def _tally(tallies: dict[tuple[Any, ...], list[float]], row: dict[str, Any]) -> None:
    hour = int(row["recorded_at"].timestamp()) // 3600
    key = (hour, row["station"], row["inspector"], row["version"], row["verdict"])
    found = tallies.setdefault(key, [0, 0.0, None, 0.0, 0.0])  # type: ignore[list-item]
    found[0] += 1
    if row["score"] is not None:
        found[1] += row["score"]
        found[2] = max(found[2] or 0.0, row["score"])
    found[3] += row["latency_ms"]
    found[4] = max(found[4], row["latency_ms"])


def _alarm(index: int, end: datetime) -> dict[str, Any]:
    moment = end - timedelta(days=DAYS) * (40 - index) / 40
    return {
        "id": least_id(moment), "station": STATIONS[index % 3], "inspector": INSPECTORS[index % 6],
        "measure": "brightness", "message": "brightness fell", "evidence": {}, "raised_at": moment,
        "ended_at": None if index > 37 else moment + timedelta(hours=2),
        "seen_by": None, "seen_at": None,
    }  # fmt: skip


def _write(database: Database, table: type[Table], rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    columns = table.__mapper__.columns
    if database.name == "sqlite":
        with database.writing() as session:
            session.execute(insert(table), rows)
        return
    names = [f'"{column.name}"' for column in columns]
    keys = [table.__mapper__.get_property_by_column(column).key for column in columns]
    connection = database.engine.raw_connection()
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table.__tablename__} ({', '.join(names)}) FROM STDIN") as copy,
    ):
        for row in rows:
            values = [row.get(key) for key in keys]
            copy.write_row(
                [json.dumps(one) if isinstance(one, dict | list) else one for one in values]
            )
    connection.commit()
    connection.close()
