"""Statistics for pages and API: counts and trends from tallies, scores from the newest parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, func, select

from blemish.errors import ParameterError
from blemish.station.store.inspections import HOUR
from blemish.station.store.opening import Database
from blemish.station.store.tables import DecisionRow, InspectionRow, TallyRow
from blemish.station.store.types import least_id
from blemish.verdict.inspection import ABOVE_REVIEW, NOT_CALIBRATED

Floats = npt.NDArray[np.float64]

DAY = 24  # hours
NEWEST = 5000  # parts that histograms and percentiles are of
_BY_SCORE = {ABOVE_REVIEW, NOT_CALIBRATED}  # why a person must decide on a part that was seen
VERDICTS = ("pass", "review", "fail", "error")


@dataclass(frozen=True)
class Scope:
    """Which parts are counted: hours from `since` on and before `until`, whole ones."""

    inspector: str | None = None
    station: str | None = None
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Counts:
    """Parts by verdict, and sums over them; means are None where there is no part."""

    by_verdict: Mapping[str, int]
    score_sum: float = 0.0
    score_max: float | None = None
    latency_sum: float = 0.0
    latency_max: float | None = None

    @property
    def parts(self) -> int:
        """All of them."""
        return sum(self.by_verdict.values())

    @property
    def first_pass_yield(self) -> float | None:
        """The share that passed without a person; an image that could not be read did not."""
        return self.by_verdict["pass"] / self.parts if self.parts else None

    @property
    def score_mean(self) -> float | None:
        """Over the parts that have a score."""
        scored = self.parts - self.by_verdict["error"]
        return self.score_sum / scored if scored else None

    @property
    def latency_mean(self) -> float | None:
        """In ms."""
        return self.latency_sum / self.parts if self.parts else None


@dataclass(frozen=True)
class Step:
    """One step of a trend: `begin` in UTC, and what was counted from there to the next step."""

    begin: datetime
    counts: Counts


@dataclass(frozen=True)
class VersionCounts:
    """What one version of an inspector judged."""

    inspector: str
    version: int
    counts: Counts


@dataclass(frozen=True)
class Latency:
    """Of the newest `parts`, in ms; None where there are none."""

    parts: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Recent:
    """The newest parts of an inspector that have a score, newest first [n].

    `decisions` are the newest of each part; None: no person has said. `unseen` parts are in review
    whatever their score, as they could not be aligned.
    """

    inspector: str
    ids: tuple[str, ...]
    scores: Floats
    verdicts: tuple[str, ...]
    decisions: tuple[str | None, ...]
    unseen: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Histogram:
    """Scores by bin: `edges` [n + 1], and of each verdict how many parts [n]; none: all empty."""

    edges: tuple[float, ...]
    by_verdict: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Changes:
    """What other thresholds would have made of the newest parts.

    `moved` counts parts by verdict then and verdict now; `decided` by what a person said of them
    (the newest decision) and verdict now.
    """

    parts: int
    counts: Mapping[str, int]
    moved: Mapping[tuple[str, str], int]
    decided: Mapping[tuple[str, str], int]


# From tallies ---------------------------------------------------------------------------


def counted(database: Database, scope: Scope = Scope()) -> Counts:
    """All parts of a scope."""
    return _grouped(database, scope).get((), _counts([]))


def by_version(database: Database, scope: Scope = Scope()) -> list[VersionCounts]:
    """The parts of a scope by inspector and version, in this order."""
    found = _grouped(database, scope, TallyRow.inspector, TallyRow.version)
    return [VersionCounts(key[0], key[1], counts) for key, counts in sorted(found.items())]


def trend(database: Database, scope: Scope = Scope(), *, hours: int = 1) -> list[Step]:
    """The parts of a scope by steps of so many hours (DAY: days of UTC), oldest first.

    Steps without a part are left out. Raises ParameterError for steps of no hour.
    """
    if hours < 1:
        raise ParameterError(f"the steps of a trend have {hours} hours; give 1 or more")
    begin = TallyRow.hour - TallyRow.hour % hours
    found = _grouped(database, scope, begin)
    epoch = datetime.fromtimestamp(0, UTC)
    return [Step(epoch + timedelta(hours=key[0]), counts) for key, counts in sorted(found.items())]


def _grouped(database: Database, scope: Scope, *by: Any) -> dict[tuple[Any, ...], Counts]:
    row = TallyRow
    query: Select[Any] = select(
        *by, row.verdict,
        func.sum(row.parts), func.sum(row.score_sum), func.max(row.score_max),
        func.sum(row.latency_sum), func.max(row.latency_max),
    ).group_by(*by, row.verdict)  # fmt: skip
    for name in ("inspector", "station", "version"):
        value = getattr(scope, name)
        if value is not None:
            query = query.where(getattr(row, name) == value)
    if scope.since is not None:
        query = query.where(row.hour >= int(scope.since.timestamp() // HOUR))
    if scope.until is not None:
        query = query.where(row.hour < -int(-scope.until.timestamp() // HOUR))
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    with database.reading() as session:
        for found in session.execute(query):
            groups.setdefault(tuple(found[: len(by)]), []).append(tuple(found[len(by) :]))
    return {key: _counts(rows) for key, rows in groups.items()}


def _counts(rows: Iterable[tuple[Any, ...]]) -> Counts:
    """From rows of: verdict, parts, score_sum, score_max, latency_sum, latency_max."""
    found = list(rows)
    parts = dict.fromkeys(VERDICTS, 0)
    parts |= {row[0]: int(row[1]) for row in found}  # PostgreSQL sums to a decimal number
    worst = [row[3] for row in found if row[3] is not None]
    return Counts(
        by_verdict=parts,
        score_sum=sum(row[2] for row in found),
        score_max=max(worst, default=None),
        latency_sum=sum(row[4] for row in found),
        latency_max=max((row[5] for row in found), default=None),
    )


# From the newest parts --------------------------------------------------------------------


def latency(
    database: Database,
    *,
    inspector: str | None = None,
    station: str | None = None,
    parts: int = NEWEST,
) -> Latency:
    """How long the newest parts took."""
    query = select(InspectionRow.latency_ms).order_by(InspectionRow.id.desc()).limit(parts)
    if inspector is not None:
        query = query.where(InspectionRow.inspector == inspector)
    if station is not None:
        query = query.where(InspectionRow.station == station)
    with database.reading() as session:
        spent = np.array(session.scalars(query).all(), np.float64)
    if not spent.size:
        return Latency(0)
    middle, high, highest = np.percentile(spent, (50, 95, 99)).tolist()
    return Latency(spent.size, float(spent.mean()), middle, high, highest, float(spent.max()))


def recent(
    database: Database, inspector: str, *, version: int | None = None, parts: int = NEWEST
) -> Recent:
    """The newest parts of an inspector, or of one version of it, that have a score."""
    row = InspectionRow
    span = None if version is None else span_of(database, inspector, version)
    newest = (
        select(row.id, row.score, row.verdict, row.reason)
        .where(row.inspector == inspector)
        .order_by(row.id.desc())
        .limit(parts)
    )
    if version is not None:
        newest = newest.where(row.version == version)
    if span is not None:
        newest = newest.where(row.id.between(*span))
    part = newest.subquery()
    said = select(DecisionRow.inspection_id, DecisionRow.decision).join(
        part, part.c.id == DecisionRow.inspection_id
    )
    with database.reading() as session:
        rows = [one for one in session.execute(newest) if one[1] is not None]
        # Of a part that was decided more than once the newest decision comes last.
        found = session.execute(said.order_by(DecisionRow.id))
        decided: dict[str, str] = {key: decision for key, decision in found}  # noqa: C416 - rows
    keys, scores, verdicts, reasons = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Recent(
        inspector,
        ids=tuple(keys),
        scores=np.array(scores, np.float64),
        verdicts=verdicts,
        decisions=tuple(map(decided.get, keys)),
        unseen=np.array(
            [
                verdict == "review" and reason not in _BY_SCORE
                for verdict, reason in zip(verdicts, reasons, strict=True)
            ],
            np.bool_,
        ),
    )


def span_of(database: Database, inspector: str, version: int) -> tuple[str, str] | None:
    """Between which ids the parts of a version are; None: there are none.

    PostgreSQL would look for an old version's newest parts from today on. An hour more at both
    ends allows for clocks that were set between a part's arrival and its recording.
    """
    query = select(func.min(TallyRow.hour), func.max(TallyRow.hour)).where(
        TallyRow.inspector == inspector, TallyRow.version == version
    )
    with database.reading() as session:
        first, last = session.execute(query).one()
    if first is None:
        return None
    begin, end = (datetime.fromtimestamp(hour * HOUR, UTC) for hour in (first - 1, last + 2))
    return least_id(begin), least_id(end)


def histogram(parts: Recent, *, bins: int = 60, limits: Iterable[float] = ()) -> Histogram:
    """The scores in bins of one width; `limits`, such as thresholds, lie within the edges.

    Raises ParameterError for no bins.
    """
    if bins < 1:
        raise ParameterError(f"a histogram of {bins} bins shows nothing; give 1 or more")
    shown = np.concatenate([parts.scores, np.array(list(limits), np.float64)])
    edges = np.histogram_bin_edges(shown if shown.size else np.zeros(1), bins)
    verdicts = np.array(parts.verdicts, dtype=str)
    by_verdict = {
        verdict: tuple(np.histogram(parts.scores[verdicts == verdict], edges)[0].tolist())
        for verdict in VERDICTS
        if verdict != "error"
    }
    return Histogram(tuple(edges.tolist()), by_verdict)


def judged_by(parts: Recent, threshold: float, review: float | None = None) -> list[str]:
    """What the verdicts would be above `threshold` (fail) and above `review` (review).

    `unseen` parts stay in review. Raises ParameterError for a review threshold above the threshold.
    """
    if review is not None and review > threshold:
        raise ParameterError(
            f"the review threshold {review:g} lies above the threshold {threshold:g}; give a lower"
        )
    scores = parts.scores
    judged = np.where(scores > threshold, "fail", "pass").astype("<U8")
    if review is not None:
        judged[(scores <= threshold) & (scores > review)] = "review"
    judged[parts.unseen] = "review"
    return [str(verdict) for verdict in judged]


def changes(parts: Recent, threshold: float, review: float | None = None) -> Changes:
    """What other thresholds would have made of parts, counted; raises as `judged_by` does."""
    judged = judged_by(parts, threshold, review)
    return Changes(
        parts=len(judged),
        counts={verdict: judged.count(verdict) for verdict in ("pass", "review", "fail")},
        moved=_pairs(parts.verdicts, judged),
        decided=_pairs(parts.decisions, judged),
    )


def _pairs(before: Iterable[str | None], after: Iterable[str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for one, other in zip(before, after, strict=True):
        if one is not None:
            found[one, other] = found.get((one, other), 0) + 1
    return found
