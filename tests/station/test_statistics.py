"""Statistics: counts and trends as the rows give them, histograms, and other thresholds."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from drafts import draft
from sqlalchemy import delete, select
from test_store import decide, recorded

from blemish.errors import ParameterError
from blemish.station.store import Database, record
from blemish.station.store.statistics import (
    DAY,
    Counts,
    Scope,
    Step,
    by_version,
    changes,
    counted,
    histogram,
    latency,
    recent,
    trend,
)
from blemish.station.store.tables import InspectionRow

START = datetime(2026, 5, 1, 22, tzinfo=UTC)


@pytest.fixture
def history(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Parts of five hours around midnight, written at these hours; what is known of each."""
    told = []
    for index in range(30):
        moment = START + timedelta(hours=index % 5, minutes=index)
        monkeypatch.setattr("blemish.station.store.inspections.now", lambda moment=moment: moment)
        values: dict[str, Any] = {
            "verdict": ("pass", "pass", "review", "fail", "error")[index % 5 if index % 3 else 0],
            "inspector": ("board", "nut")[index % 2], "version": 1 + index // 15,
            "station": ("line-1", "line-2")[index // 10 % 2], "latency_ms": 50.0 + index,
        }  # fmt: skip
        record(database, draft(**values))
        told.append(values | {"moment": moment})
    return told


def counts_of(parts: list[dict[str, Any]]) -> Counter[str]:
    """Verdicts of some parts."""
    return Counter(part["verdict"] for part in parts)


def assert_counts(counts: Counts, parts: list[dict[str, Any]]) -> None:
    """The counts are those of the parts."""
    assert {name: found for name, found in counts.by_verdict.items() if found} == counts_of(parts)
    assert counts.parts == len(parts)
    spent = [part["latency_ms"] for part in parts]
    assert counts.latency_mean == pytest.approx(np.mean(spent) if parts else None)
    assert counts.latency_max == (max(spent) if parts else None)


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"inspector": "nut"},
        {"station": "line-2"},
        {"version": 2},
        {"inspector": "board", "station": "line-1", "version": 1},
        {"inspector": "nothing"},
        {"since": START + timedelta(hours=2)},
        {"until": START + timedelta(hours=1)},
        {"since": START + timedelta(hours=1), "until": START + timedelta(hours=3)},
    ],
)
def test_counts_are_those_of_the_rows(
    database: Database, history: list[dict[str, Any]], scope: dict[str, Any]
) -> None:
    """By any scope of whole hours."""
    equal = {name: value for name, value in scope.items() if name not in ("since", "until")}
    since, until = scope.get("since", START), scope.get("until", START + timedelta(days=9))
    parts = [
        part
        for part in history
        if all(part[name] == value for name, value in equal.items())
        and since <= part["moment"] < until
    ]
    assert_counts(counted(database, Scope(**scope)), parts)


def test_counts_outlive_the_rows(database: Database, history: list[dict[str, Any]]) -> None:
    """Retention takes inspections, not what was counted of them."""
    with database.writing() as session:
        session.execute(delete(InspectionRow))
    assert_counts(counted(database), history)


def test_a_trend_has_steps_of_hours_or_days(
    database: Database, history: list[dict[str, Any]]
) -> None:
    """Oldest first, days of UTC; all steps together are all parts."""
    hourly = trend(database)
    assert [step.begin for step in hourly] == [START + timedelta(hours=one) for one in range(5)]
    for step in hourly:
        assert_counts(step.counts, within(history, step, 1))
    daily = trend(database, hours=DAY)
    midnight = START.replace(hour=0)
    assert [step.begin for step in daily] == [midnight, midnight + timedelta(days=1)]
    for step in daily:
        assert_counts(step.counts, within(history, step, 24))
    with pytest.raises(ParameterError, match="have 0 hours"):
        trend(database, hours=0)


def within(history: list[dict[str, Any]], step: Step, hours: int) -> list[dict[str, Any]]:
    """The parts of one step."""
    end = step.begin + timedelta(hours=hours)
    return [part for part in history if step.begin <= part["moment"] < end]


def test_versions_are_told_apart(database: Database, history: list[dict[str, Any]]) -> None:
    """By inspector, then by number."""
    found = by_version(database)
    assert [(one.inspector, one.version) for one in found] == [
        ("board", 1), ("board", 2), ("nut", 1), ("nut", 2)
    ]  # fmt: skip
    for one in found:
        parts = [
            part
            for part in history
            if (part["inspector"], part["version"]) == (one.inspector, one.version)
        ]
        assert_counts(one.counts, parts)


def test_the_yield_counts_what_passed_without_a_person(database: Database) -> None:
    """Of all parts; scores are averaged over those that have one, and nothing divides by zero."""
    none = counted(database)
    assert (none.first_pass_yield, none.score_mean, none.latency_mean) == (None, None, None)
    for verdict, score in [("pass", 0.5), ("fail", 2.0), ("error", None), ("pass", -1.0)]:
        recorded(database, verdict=verdict, score=score)
    found = counted(database)
    assert found.first_pass_yield == 0.5
    assert found.score_mean == pytest.approx(0.5)
    assert found.score_max == 2.0


def test_latency_is_of_the_newest_parts(database: Database) -> None:
    """Percentiles as NumPy has them, of one inspector or station if asked."""
    for index in range(20):
        recorded(
            database, latency_ms=float(index), inspector=("board", "nut")[index % 2],
            station=("line-1", "line-2")[index // 10],
        )  # fmt: skip
    found = latency(database, parts=11)
    assert (found.parts, found.mean, found.p50, found.max) == (11, 14.0, 14.0, 19.0)
    assert found.p95 == pytest.approx(18.5)
    assert latency(database, inspector="nut").max == 19.0
    assert latency(database, station="line-1").max == 9.0
    assert latency(database, inspector="nothing").p99 is None


def test_recent_parts_have_scores_verdicts_and_the_newest_decision(database: Database) -> None:
    """Newest first, of one version if asked; an image without a score is left out."""
    first = recorded(database, score=0.1)
    recorded(database, verdict="error")
    recorded(database, score=0.2, verdict="review", reason="The part could not be aligned.")
    recorded(database, score=0.85, verdict="review", reason="above the review threshold", version=2)
    recorded(database, inspector="nut")
    decide(database, first, "pass")
    decide(database, first, "fail")
    found = recent(database, "board")
    assert found.scores.tolist() == [0.85, 0.2, 0.1]
    assert found.verdicts == ("review", "review", "pass")
    assert found.decisions == (None, None, "fail")
    assert found.unseen.tolist() == [False, True, False]
    assert recent(database, "board", version=2).scores.tolist() == [0.85]
    assert recent(database, "board", parts=3).scores.tolist() == [0.85, 0.2]


def test_a_histogram_holds_every_part_once(database: Database) -> None:
    """By verdict; thresholds lie within its edges, and one of nothing is empty."""
    for score, verdict in [(0.1, "pass"), (0.11, "pass"), (0.9, "review"), (3.0, "fail")]:
        recorded(database, score=score, verdict=verdict)
    found = histogram(recent(database, "board"), bins=10, limits=(0.0, 5.0))
    assert (found.edges[0], found.edges[-1], len(found.edges)) == (0.0, 5.0, 11)
    assert found.by_verdict["pass"] == (2, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert found.by_verdict["fail"] == (0, 0, 0, 0, 0, 0, 1, 0, 0, 0)
    empty = histogram(recent(database, "nothing"), bins=4)
    assert sum(map(sum, empty.by_verdict.values())) == 0
    with pytest.raises(ParameterError, match="0 bins"):
        histogram(recent(database, "board"), bins=0)


def test_other_thresholds_say_which_verdicts_would_change(database: Database) -> None:
    """As calibration judges: above is worse, equal is not; unaligned parts stay in review."""
    keys = [
        recorded(database, score=score, verdict=verdict, reason=reason)
        for score, verdict, reason in [
            (0.5, "pass", None),
            (0.8, "pass", None),
            (0.9, "review", "above the review threshold"),
            (0.1, "review", "The part could not be aligned."),
            (1.5, "fail", None),
        ]
    ]
    decide(database, keys[2], "pass")
    decide(database, keys[4], "fail")
    parts = recent(database, "board")
    found = changes(parts, 0.8, 0.6)
    assert found.parts == 5
    assert found.counts == {"pass": 1, "review": 2, "fail": 2}
    assert found.moved == {
        ("pass", "pass"): 1, ("pass", "review"): 1, ("review", "fail"): 1, ("review", "review"): 1,
        ("fail", "fail"): 1,
    }  # fmt: skip
    assert found.decided == {("pass", "fail"): 1, ("fail", "fail"): 1}
    assert changes(parts, 1.5).counts == {"pass": 4, "review": 1, "fail": 0}
    assert changes(recent(database, "nothing"), 1.0).parts == 0
    with pytest.raises(ParameterError, match="lies above the threshold"):
        changes(parts, 0.5, 0.6)


def test_the_histogram_and_the_rows_agree(database: Database) -> None:
    """The same thresholds as now change nothing."""
    for score in np.linspace(0, 2, 21):
        verdict = "fail" if score > 1.0 else "review" if score > 0.8 else "pass"
        reason = "above the review threshold" if verdict == "review" else None
        recorded(database, score=float(score), verdict=verdict, reason=reason)
    found = changes(recent(database, "board"), 1.0, 0.8)
    assert all(before == after for before, after in found.moved)
    with database.reading() as session:
        verdicts = Counter(session.scalars(select(InspectionRow.verdict)))
    assert found.counts == verdicts
