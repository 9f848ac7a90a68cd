"""A station's database of a million inspections: how long pages and API wait for it.

    python benchmarks/station_store.py [--rows 1000000] [--db URL]... [--calls 21]

Without --db: a SQLite file and a PostgreSQL server of its own, both in a temporary folder. A
database that holds inspections already is measured as it is. Results go to
benchmarks/results/station_store.json.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select

from _record import write_result
from blemish.station.store import Database, Filter, moment_of, statistics
from blemish.station.store.inspections import awaiting, count_awaiting, find, listed
from blemish.station.store.statistics import Scope
from blemish.station.store.tables import InspectionRow
from station_rows import DAYS, INSPECTORS, STATIONS, fill

RESULT = Path(__file__).parent / "results" / "station_store.json"
LIMIT_MS = 200.0


def questions(database: Database, end: datetime) -> dict[str, Callable[[], Any]]:
    """What pages and API ask, by name."""
    with database.reading() as session:
        ids = select(InspectionRow.id).order_by(InspectionRow.id)
        rows = session.scalar(select(func.count()).select_from(InspectionRow)) or 0
        middle = session.scalar(ids.offset(rows // 2).limit(1)) or ""
        oldest = session.scalar(ids.offset(100).limit(1)) or ""
    known = find(database, middle).row
    kind, station = INSPECTORS[1], STATIONS[1]
    week, month, quarter = (end - timedelta(days=days) for days in (7, 30, DAYS))
    old = Filter(since=end - timedelta(days=DAYS), until=end - timedelta(days=DAYS - 2))
    filters = {
        "inspector": Filter(inspector=kind),
        "verdict fail": Filter(verdict="fail"),
        "verdict error": Filter(verdict="error"),
        "inspector and verdict": Filter(inspector=kind, verdict="fail"),
        "station": Filter(station=station),
        "station and verdict error": Filter(station=station, verdict="error"),
        "station, inspector, verdict": Filter(station=station, inspector=kind, verdict="review"),
        "an inspector at a station it never was at": Filter(inspector=kind, station=STATIONS[0]),
        "source": Filter(source="camera"),
        "a source that sent nothing": Filter(source="folder"),
        "source and verdict error": Filter(source="camera", verdict="error"),
        "oldest version": Filter(version=1),
        "inspector and oldest version": Filter(inspector=kind, version=1),
        "inspector, oldest version, fail": Filter(inspector=kind, version=1, verdict="fail"),
        "a version that never was": Filter(inspector=kind, version=99),
        "part": Filter(part_id=known.part_id),
        "image": Filter(image_sha256=known.image_sha256),
        "a part that never was": Filter(part_id="nothing"),
        "decided": Filter(decided=True),
        "decided, old": Filter(decided=True, until=middle and moment_of(middle)),
        "not decided": Filter(decided=False),
        "review, not decided": Filter(decided=False, verdict="review"),
        "review, not decided, inspector": Filter(decided=False, verdict="review", inspector=kind),
        "decision fail": Filter(decision="fail"),
        "decision fail, inspector": Filter(decision="fail", inspector=kind),
        "decision pass, verdict fail (none)": Filter(decision="pass", verdict="fail"),
        "since a week": Filter(since=week),
        "oldest two days": old,
        "oldest two days, fail": Filter(since=old.since, until=old.until, verdict="fail"),
        "highest scores": Filter(min_score=5.2),
        "a score that never was": Filter(min_score=50.0),
        "highest scores of an inspector": Filter(min_score=2.6, inspector=kind),
        "lowest scores": Filter(max_score=0.28),
        "scores in a narrow band": Filter(min_score=1.0, max_score=1.0001),
        "scores in a wide band": Filter(min_score=0.5, max_score=2.0),
        "highest scores, review (none)": Filter(min_score=5.2, verdict="review"),
        "highest scores, oldest two days": Filter(
            min_score=2.0, since=old.since, until=old.until
        ),
    }  # fmt: skip
    asked: dict[str, Callable[[], Any]] = {
        "one inspection": lambda: find(database, middle),
        "list": lambda: listed(database, Filter()),
        "list, page in the middle": lambda: listed(database, Filter(), after=middle),
        "list, last page": lambda: listed(database, Filter(), after=oldest),
        "list of an inspector, last page": lambda: listed(
            database, Filter(inspector=kind), after=oldest
        ),
        "list, 500 a page": lambda: listed(database, Filter(), limit=500),
    }
    for name, wanted in filters.items():
        asked[f"list: {name}"] = lambda wanted=wanted: listed(database, wanted)  # type: ignore[misc]
    newest = statistics.recent(database, kind)
    skipped = [judged.row.id for judged in awaiting(database, limit=500)]
    return asked | {
        "review queue": lambda: awaiting(database),
        "review queue of an inspector": lambda: awaiting(database, inspector=kind),
        "review queue, 500 skipped": lambda: awaiting(database, skip=skipped),
        "review queue, length": lambda: count_awaiting(database),
        "counts, all time": lambda: statistics.counted(database),
        "counts, a week": lambda: statistics.counted(database, Scope(since=week)),
        "counts by version": lambda: statistics.by_version(database),
        "trend by hour, a week": lambda: statistics.trend(database, Scope(since=week)),
        "trend by hour, a month": lambda: statistics.trend(database, Scope(since=month)),
        "trend by day, three months": lambda: statistics.trend(
            database, Scope(since=quarter), hours=24
        ),
        "trend by day of an inspector": lambda: statistics.trend(
            database, Scope(inspector=kind, since=quarter), hours=24
        ),
        "latency of the newest 5,000": lambda: statistics.latency(database),
        "latency of an inspector": lambda: statistics.latency(database, inspector=kind),
        "newest 5,000 of an inspector": lambda: statistics.recent(database, kind),
        "newest 5,000 of its oldest version": lambda: statistics.recent(database, kind, version=1),
        "histogram, from these": lambda: statistics.histogram(newest),
        "other thresholds, from these": lambda: statistics.changes(newest, 1.2, 1.1),
    }


def timed(ask: Callable[[], Any], calls: int) -> dict[str, float]:
    """Milliseconds of so many calls; the first, with nothing in memory, is told apart.

    `cpu`: the median of this process's own time on a processor, which other work does not touch
    (with SQLite that is all of it, with PostgreSQL the client's part).
    """
    spent, busy = [], []
    for _ in range(calls + 1):
        started, used = time.perf_counter(), time.process_time()
        ask()
        spent.append((time.perf_counter() - started) * 1e3)
        busy.append((time.process_time() - used) * 1e3)
    first, rest = spent[0], spent[1:]
    p50, p95 = np.percentile(rest, (50, 95)).tolist()
    told = {"first": first, "p50": p50, "p95": p95, "max": max(rest), "cpu": np.median(busy)}
    return {name: round(float(value), 2) for name, value in told.items()}


def measured(url: str, rows: int, calls: int) -> dict[str, Any]:
    """All questions to one database, which is filled first unless it holds something."""
    database = Database(url)
    database.migrate()
    with database.reading() as session:
        newest = session.scalar(select(func.max(InspectionRow.id)))
        there = session.scalar(select(func.count()).select_from(InspectionRow)) or 0
    started = time.perf_counter()
    end = fill(database, rows, seed=0) if newest is None else moment_of(newest)
    if newest is None:
        print(f"{database.name}: {rows} rows in {time.perf_counter() - started:.0f} s", flush=True)
    found: dict[str, Any] = {}
    # What is there from the start need not be looked through at each collection of garbage, which
    # takes 0.1 s and hits whoever asks for most rows. A station should do the same once it runs.
    gc.collect()
    gc.freeze()
    before = os.getloadavg()
    for name, ask in questions(database, end).items():
        found[name] = timed(ask, calls)
        slow = "  TOO SLOW" if found[name]["p95"] > LIMIT_MS else ""
        told = "  ".join(f"{key} {value:8.2f}" for key, value in found[name].items())
        print(f"{database.name:10} {name:40} {told} ms{slow}", flush=True)
    database.close()
    return {
        "rows": there or rows,
        "load_before": [round(one, 2) for one in before],
        "load_after": [round(one, 2) for one in os.getloadavg()],
        "slowest_p95_ms": max(one["p95"] for one in found.values()),
        "ms": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=21)
    parser.add_argument("--db", action="append", default=[])
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    results = {}
    if asked.db:
        for url in asked.db:
            results[Database(url).name] = measured(url, asked.rows, asked.calls)
    else:
        folder = Path(tempfile.mkdtemp(prefix="blemish-store-"))
        try:
            results["sqlite"] = measured(f"sqlite:///{folder}/s.db", asked.rows, asked.calls)
            with_server(results, asked.rows, asked.calls)
        finally:
            shutil.rmtree(folder)
    body = {
        "what": "a station's database of a million inspections, asked as pages and API ask it",
        "command": "python benchmarks/station_store.py --db sqlite:///FILE --db postgresql://HOST/NAME",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "limit_ms": LIMIT_MS,
        "databases": results,
    }
    write_result(asked.out, body, seed=0)


def with_server(results: dict[str, Any], rows: int, calls: int) -> None:
    """The same with a PostgreSQL server, as the tests start it, where it is installed."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from station.postgres import Postgres, programs

    if programs() is None:
        print("PostgreSQL is not installed: it was left out")
        return
    server = Postgres(durable=True)
    try:
        server.start()
        results["postgresql"] = measured(server.create(), rows, calls)
    finally:
        server.close()


if __name__ == "__main__":
    main()
