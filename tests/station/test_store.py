"""Inspections in the store: written whole and once, never changed, found again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from drafts import draft, live
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError

from blemish.station.errors import ReusedKeyError, StationError, UnknownError
from blemish.station.store import Database, Filter, record
from blemish.station.store.filters import conditions
from blemish.station.store.inspections import awaiting, count_awaiting, find, listed
from blemish.station.store.tables import (
    DecisionRow,
    DeliveryRow,
    InspectionRow,
    TallyRow,
    ThresholdRow,
    VersionRow,
)
from blemish.station.store.types import least_id, moment_of, new_id, now


def recorded(database: Database, **values: Any) -> str:
    """Record a part; returns its id."""
    return record(database, draft(**values))[0].row.id


def decide(database: Database, key: str, decision: str) -> None:
    """A person says what a part is."""
    with database.writing() as session:
        session.add(
            DecisionRow(
                id=new_id(), inspection_id=key, decision=decision, by="Ada", note="",
                decided_at=now(),
            )
        )  # fmt: skip


def count(database: Database, table: Any) -> int:
    """How many rows a table has."""
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_what_is_recorded_is_found_as_it_was(database: Database) -> None:
    """Every column comes back with its value and type, times in UTC, from both databases."""
    made = draft(
        verdict="review", part_id="Ä-1 'x\"; --", correlation_id="c", image="ü.png", width=3,
        height=2, p_value=0.25, reason="above", regions=[{"box": [1, 2, 3, 4], "peak": 0.1 + 0.2}],
        map_sha256="cd" * 32, matrix=[[1.0, 0.0, 0.5], [0.0, 1.0, 1e-300], [0.0, 0.0, 1.0]],
        brightness=0.5, sharpness=1 / 3, residual=0.01, extra={"shift": "früh", "n": [1, None]},
        timings={"view": 1.5}, request_key="k", request_sha256="d", sinks=["plc"],
    )  # fmt: skip
    before = now()
    written, created = record(database, made)
    found = find(database, made.id)
    assert created
    assert found.row.regions == [{"box": [1, 2, 3, 4], "peak": 0.1 + 0.2}]
    assert (found.row.part_id, found.row.image) == ("Ä-1 'x\"; --", "ü.png")
    assert found.row.matrix == made.matrix
    assert found.row.extra == {"shift": "früh", "n": [1, None]}
    assert found.row.sharpness == 1 / 3
    assert found.row.nearness == pytest.approx(0.1)
    assert found.bundle_sha256 == live().bundle_sha256
    assert before <= found.row.recorded_at <= now()
    assert found.row.recorded_at.tzinfo is UTC
    for column in InspectionRow.__mapper__.column_attrs:
        assert getattr(found.row, column.key) == getattr(written.row, column.key), column.key


def test_an_unknown_id_is_told(database: Database) -> None:
    """Also one that no database could hold."""
    for key in ("0" * 36, "", "a\0b", "\ud800", "x" * 100_000):
        with pytest.raises(UnknownError, match="there is no inspection"):
            find(database, key)


@pytest.mark.parametrize(
    "hostile",
    [
        {"part_id": "a\0b"},
        {"image": "half \ud800"},
        {"extra": {"a": ["\0"]}},
        {"extra": {"\udfff": 1}},
        {"extra": {"a": float("nan")}},
        {"extra": {"a": {"b": float("inf")}}},
    ],
)
def test_text_that_no_database_keeps_is_refused(
    database: Database, hostile: dict[str, Any]
) -> None:
    """In one sentence and in both databases alike; nothing is written."""
    with pytest.raises(StationError, match="no database keeps that"):
        recorded(database, **hostile)
    assert count(database, InspectionRow) == 0


def test_inspections_never_change(database: Database) -> None:
    """A trigger refuses every change of a row, whoever asks for it; retention may remove it."""
    key = recorded(database)
    with pytest.raises(DBAPIError, match="inspections never change"), database.writing() as session:
        session.execute(update(InspectionRow).values(verdict="fail"))
    assert find(database, key).row.verdict == "pass"
    with database.writing() as session:
        session.execute(delete(InspectionRow))
    assert count(database, InspectionRow) == 0


def test_versions_and_thresholds_are_written_once(database: Database) -> None:
    """However many parts a version judges."""
    for version in (1, 1, 2, 1):
        recorded(database, version=version)
    assert count(database, VersionRow) == 2
    assert count(database, ThresholdRow) == 1


# Requests that come again ------------------------------------------------------------------


def test_a_request_that_comes_again_is_the_same_inspection(database: Database) -> None:
    """With its tally and deliveries counted once; the same key for another part is refused."""
    first, new = record(database, draft(request_key="k", request_sha256="1", sinks=["plc"]))
    again, renewed = record(database, draft(request_key="k", request_sha256="1", sinks=["plc"]))
    assert (new, renewed) == (True, False)
    assert first.row.id == again.row.id
    assert (count(database, InspectionRow), count(database, DeliveryRow)) == (1, 1)
    with pytest.raises(ReusedKeyError, match="Idempotency-Key"):
        recorded(database, request_key="k", request_sha256="2")
    with database.reading() as session:
        assert session.scalar(select(func.sum(TallyRow.parts))) == 1


def at_once(number: int, action: Callable[[int], Any]) -> list[Any]:
    """What `action` gives in so many threads that begin together."""
    barrier = threading.Barrier(number)

    def begun(index: int) -> Any:
        barrier.wait()
        return action(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(begun, range(number)))


def test_stations_that_record_one_request_at_once_write_one_row(
    database: Database, database_url: str
) -> None:
    """Two stations with connections of their own, eight threads, and new versions each time."""
    other = Database(database_url)
    for turn in range(5):
        found = at_once(
            8,
            lambda index, turn=turn: record(
                (database, other)[index % 2],
                draft(version=turn, request_key=f"k{turn}", request_sha256="1", sinks=["plc"]),
            ),
        )
        assert len({judged.row.id for judged, _ in found}) == 1
        assert sum(created for _, created in found) == 1
    other.close()
    assert (count(database, InspectionRow), count(database, DeliveryRow)) == (5, 5)
    assert (count(database, VersionRow), count(database, ThresholdRow)) == (5, 1)


# What goes with an inspection ----------------------------------------------------------------


def test_deliveries_and_tallies_go_with_the_inspection_or_not_at_all(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the row and its deliveries, nothing of the part is there."""
    recorded(database, sinks=["plc", "mes"])
    assert (count(database, InspectionRow), count(database, DeliveryRow)) == (1, 2)

    def killed(**_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("blemish.station.store.inspections.DeliveryRow", killed)
        with pytest.raises(KeyboardInterrupt):
            recorded(database, sinks=["plc"], version=2)
    assert (count(database, InspectionRow), count(database, DeliveryRow)) == (1, 2)
    assert (count(database, TallyRow), count(database, VersionRow)) == (1, 1)


def recounted(database: Database) -> dict[tuple[Any, ...], list[Any]]:
    """The tallies as the rows give them."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    with database.reading() as session:
        for row in session.scalars(select(InspectionRow)):
            hour = int(row.recorded_at.timestamp()) // 3600
            key = (hour, row.station, row.inspector, row.version, row.verdict)
            sums = found.setdefault(key, [0, 0.0, None, 0.0, 0.0])
            sums[0] += 1
            sums[1] += row.score or 0.0
            if row.score is not None:
                sums[2] = row.score if sums[2] is None else max(sums[2], row.score)
            sums[3] += row.latency_ms
            sums[4] = max(sums[4], row.latency_ms)
    return found


def tallied(database: Database) -> dict[tuple[Any, ...], list[Any]]:
    """The tallies as they were kept."""
    with database.reading() as session:
        return {
            (row.hour, row.station, row.inspector, row.version, row.verdict): [
                row.parts, row.score_sum, row.score_max, row.latency_sum, row.latency_max
            ]
            for row in session.scalars(select(TallyRow))
        }  # fmt: skip


def test_tallies_are_the_rows_counted_also_with_eight_writers(database: Database) -> None:
    """Parts, sums and maxima of both are equal, negative scores and missing ones among them."""

    def write(index: int) -> None:
        for turn in range(12):
            verdict = ("pass", "fail", "error")[turn % 3]
            score = None if verdict == "error" else -1.0 - index + 0.25 * turn
            recorded(
                database, version=1 + turn % 2, verdict=verdict, score=score,
                station=f"line-{index % 2}", latency_ms=10.0 * index + turn,
            )  # fmt: skip

    at_once(8, write)
    assert count(database, InspectionRow) == 96
    assert tallied(database) == {
        key: pytest.approx(sums) for key, sums in recounted(database).items()
    }


# Finding -------------------------------------------------------------------------------------


@pytest.fixture
def several(database: Database) -> list[str]:
    """Six parts, oldest first, each different in something that a filter can ask for."""
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    told: list[dict[str, Any]] = [
        {},
        {"verdict": "review", "part_id": "P", "version": 2},
        {"verdict": "fail", "station": "line-2", "score": 7.0},
        {"inspector": "nut", "source": "camera"},
        {"verdict": "error", "image_sha256": "cd" * 32},
        {"verdict": "review", "score": -3.0},
    ]
    keys = [
        recorded(database, id=least_id(moment + timedelta(hours=hour)), **values)
        for hour, values in enumerate(told)
    ]
    decide(database, keys[1], "fail")
    decide(database, keys[1], "pass")
    decide(database, keys[2], "fail")
    return keys


FOUND = [
    (Filter(), [5, 4, 3, 2, 1, 0]),
    (Filter(inspector="board"), [5, 4, 2, 1, 0]),
    (Filter(inspector="nut"), [3]),
    (Filter(version=2), [1]),
    (Filter(verdict="review"), [5, 1]),
    (Filter(station="line-2"), [2]),
    (Filter(source="camera"), [3]),
    (Filter(part_id="P"), [1]),
    (Filter(image_sha256="cd" * 32), [4]),
    (Filter(decided=True), [2, 1]),
    (Filter(decided=False), [5, 4, 3, 0]),
    (Filter(decision="fail"), [2]),
    (Filter(decision="pass"), [1]),
    (Filter(decision="pass", verdict="review", inspector="board"), [1]),
    (Filter(decision="pass", decided=False), []),
    (Filter(since=datetime(2026, 5, 1, 4, tzinfo=UTC)), [5, 4]),
    (Filter(until=datetime(2026, 5, 1, 1, tzinfo=UTC)), [0]),
    (Filter(since=datetime(1, 1, 1, tzinfo=UTC)), [5, 4, 3, 2, 1, 0]),
    (Filter(until=datetime(9999, 1, 1, tzinfo=UTC), verdict="fail"), [2]),
    (Filter(min_score=1.0), [2]),
    (Filter(max_score=0.0), [5]),
    (Filter(min_score=0.5, max_score=1.0, inspector="board"), [1, 0]),
    (Filter(min_score=0.5, decided=True, since=datetime(2026, 5, 1, 1, tzinfo=UTC)), [2, 1]),
    (Filter(max_score=1.0, decision="pass", verdict="review"), [1]),
    (Filter(max_score=1.0, decided=False, verdict="review"), [5]),
    (Filter(station="line-2", inspector="nut"), []),
    (Filter(min_score=float("nan")), []),
    (Filter(max_score=float("nan")), []),
    (Filter(max_score=float("inf")), [5, 3, 2, 1, 0]),
    (Filter(inspector="board' OR 1=1 --"), []),
    (Filter(part_id="a\0b"), []),
    (Filter(part_id="\ud800"), []),
    (Filter(version=2**70), []),
    (Filter(version=-(2**40)), []),
]


@pytest.mark.parametrize("looked_at", [500, 1])
def test_filters_find_what_they_say(
    database: Database, several: list[str], looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newest first; values that cannot be there find nothing, in both databases.

    Scores are found among the newest parts, and by their index where there are not enough.
    """
    monkeypatch.setattr("blemish.station.store.filters._LOOKED_AT", looked_at)
    for wanted, places in FOUND:
        page = listed(database, wanted)
        assert [several.index(judged.row.id) for judged in page.inspections] == places, wanted
        assert page.following is None
        for size in (1, 2):
            assert [several.index(key) for key in pages(database, wanted, size)] == places, wanted
        with database.reading() as session:
            query = conditions(select(InspectionRow.id), wanted).order_by(InspectionRow.id.desc())
            assert [several.index(key) for key in session.scalars(query)] == places, wanted


def pages(database: Database, wanted: Filter, limit: int) -> Iterator[str]:
    """The ids of all pages of this size."""
    cursor: str | None = None
    while True:
        page = listed(database, wanted, limit=limit, after=cursor)
        yield from (judged.row.id for judged in page.inspections)
        cursor = page.following
        if cursor is None:
            return


def test_the_newest_decision_counts(database: Database, several: list[str]) -> None:
    """All are kept."""
    found = find(database, several[1])
    assert found.decision is not None
    assert found.decision.decision == "pass"
    assert count(database, DecisionRow) == 3


@pytest.mark.parametrize("wanted", [Filter(), Filter(min_score=0.0), Filter(decided=False)])
def test_pages_have_neither_gap_nor_double_while_parts_are_added(
    database: Database, wanted: Filter
) -> None:
    """Whoever turns the pages sees each part that was there at the beginning exactly once."""
    there = [recorded(database) for _ in range(25)][::-1]
    seen = []
    for key in pages(database, wanted, 4):
        seen.append(key)
        recorded(database)
    assert seen == there


def test_ids_are_in_the_order_of_time() -> None:
    """Also of many threads, and two in the same instant differ."""
    keys = [new_id() for _ in range(5000)]
    assert keys == sorted(set(keys))
    spread = [key for some in at_once(8, lambda _: [new_id() for _ in range(500)]) for key in some]
    assert len(set(spread)) == 4000
    moment = now()
    key = least_id(moment)
    assert abs(moment_of(key) - moment) < timedelta(milliseconds=1)
    assert key < new_id()


def test_the_review_queue_has_the_undecided_nearest_to_the_threshold_first(
    database: Database,
) -> None:
    """Decided parts leave it, other verdicts never come in, and those looked at can be skipped."""
    keys = [recorded(database, verdict="review", score=score) for score in (0.82, 0.99, 0.9, 0.95)]
    recorded(database, verdict="fail", score=1.0)
    recorded(database, inspector="nut", verdict="review", score=0.97)
    decide(database, keys[3], "pass")
    assert [one.row.score for one in awaiting(database)] == [0.99, 0.97, 0.9, 0.82]
    assert [one.row.score for one in awaiting(database, inspector="board")] == [0.99, 0.9, 0.82]
    assert [one.row.score for one in awaiting(database, skip=keys[1:2], limit=2)] == [0.97, 0.9]
    assert (count_awaiting(database), count_awaiting(database, inspector="nut")) == (4, 1)


def test_a_database_keeps_what_it_acknowledged_through_close_and_open(
    database: Database, database_url: str
) -> None:
    """And SQLite is in the mode that survives a power cut."""
    key = recorded(database)
    database.close()
    again = Database(database_url)
    again.migrate()
    assert find(again, key).row.id == key
    if again.name == "sqlite":
        with again.reading() as session:
            assert session.scalar(text("PRAGMA journal_mode")) == "wal"
            assert session.scalar(text("PRAGMA synchronous")) == 2
    again.close()
