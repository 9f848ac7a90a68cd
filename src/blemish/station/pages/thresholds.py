"""The threshold page: what other thresholds would have made of the last parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from sqlalchemy import select
from starlette.responses import Response

from blemish.errors import BlemishError, ParameterError
from blemish.station.api.access import Engineer, Here, Viewer
from blemish.station.api.schemas import InspectorName
from blemish.station.pages.rendering import fragment, go, page, path
from blemish.station.store import Database
from blemish.station.store.tables import DecisionRow, InspectionRow
from blemish.verdict import Calibration, Rule
from blemish.verdict.inspection import ABOVE_REVIEW, NOT_CALIBRATED
from blemish.verdict.rule import least_rate

router = APIRouter()

LAST = 1000  # parts that are judged again
SHOWN = 12  # of those that would change
_FIELDS = ("false_alarm_rate", "confidence", "review_rate", "threshold", "review_threshold")
_IN_PERCENT = {"false_alarm_rate", "confidence", "review_rate"}


@dataclass(frozen=True)
class Known:
    """A recorded score, its verdict, whether a person must decide anyway, and what one said."""

    id: str
    score: float
    verdict: str
    bound: bool  # in review for another reason than its score, which no threshold changes
    decision: str | None


@dataclass(frozen=True)
class Preview:
    """What a rule would have made of the last parts."""

    calibration: Calibration
    moves: dict[tuple[str, str], int]
    changed: list[tuple[Known, str]]  # the nearest to the new threshold first
    after: Counter[str]
    good: int  # parts that people decided to pass
    false_alarms: int  # of these, those that would fail
    bad: int
    escapes: int

    @property
    def count(self) -> int:
        """How many verdicts would change."""
        return sum(self.moves.values())


@router.get("/inspectors/{name}/threshold")
def threshold_page(
    request: Request, station: Here, person: Viewer, name: InspectorName
) -> Response:
    """Scores of good and of recent parts, and the thresholds among them."""
    held = station.shelf.get(name)
    calibration = held.inspector.calibration
    recent = last_scores(station.database, name)
    preview = None if calibration is None else preview_of(calibration, recent)
    scores = [known.score for known in recent]
    return page(
        request, person, "threshold.html", held=held, live=held.live, calibration=calibration,
        recent=scores, preview=preview, problem=None, span=_span(calibration, scores),
        least=None if calibration is None else least_rate(len(calibration.scores)),
    )  # fmt: skip


@router.get("/inspectors/{name}/threshold/preview")
def preview_part(request: Request, station: Here, person: Viewer, name: InspectorName) -> Response:
    """What would change; a rule that cannot be kept is told in its place."""
    calibration = station.shelf.get(name).inspector.calibration
    recent = last_scores(station.database, name)
    preview, problem = None, None
    try:
        if calibration is None:
            raise ParameterError("it has no calibration yet; calibrate it with good parts first")
        preview = preview_of(calibration.under(rule_of(request.query_params)), recent)
    except BlemishError as error:
        problem = str(error)
    return fragment("_preview.html", person, preview=preview, problem=problem, recent=recent)


@router.post("/inspectors/{name}/threshold")
def save(
    request: Request,
    station: Here,
    person: Engineer,
    name: InspectorName,
    mode: Annotated[str, Form(max_length=10)] = "hand",
    false_alarm_rate: Annotated[str, Form(max_length=40)] = "",
    confidence: Annotated[str, Form(max_length=40)] = "",
    review_rate: Annotated[str, Form(max_length=40)] = "",
    threshold: Annotated[str, Form(max_length=40)] = "",
    review_threshold: Annotated[str, Form(max_length=40)] = "",
    note: Annotated[str, Form(max_length=2000)] = "",
    force: Annotated[bool, Form()] = False,
) -> Response:
    """Make a version of it, which goes live."""
    values = (false_alarm_rate, confidence, review_rate, threshold, review_threshold)
    rule = rule_of({"mode": mode, **dict(zip(_FIELDS, values, strict=True))})
    station.reviewing.set_thresholds(name, rule, person, note, force=force)
    return go(request, f"/inspectors/{path(name)}/threshold", "threshold")


def rule_of(asked: Mapping[str, str]) -> Rule:
    """The rule that a form asks for, by `mode`: a promise (in percent), or thresholds by hand."""
    by_promise = asked.get("mode") == "promise"
    names = _FIELDS[:3] if by_promise else _FIELDS[3:]
    values: dict[str, float] = {}
    for name in names:
        text = asked.get(name, "").strip()
        if not text:
            continue
        try:
            value = float(text)
        except ValueError as error:
            raise ParameterError(f"{_words(name)}: '{text[:40]}' is not a number") from error
        values[name] = value / 100 if name in _IN_PERCENT else value
    if names[0] not in values:
        raise ParameterError(f"give a {_words(names[0])}")
    return Rule(**values)


def last_scores(database: Database, inspector: str) -> list[Known]:
    """The last parts of an inspector that have a score, newest first, and what people said."""
    row = InspectionRow
    query = (
        select(row.id, row.score, row.verdict, row.reason)
        .where(row.inspector == inspector, row.score.is_not(None))
        .order_by(row.id.desc())
        .limit(LAST)
    )
    with database.reading() as session:
        found = session.execute(query).all()
        said: dict[str, str] = {}
        if found:
            # Decisions come after their parts, so that those of older parts are few.
            decisions = select(DecisionRow.inspection_id, DecisionRow.decision).where(
                DecisionRow.inspection_id >= found[-1][0]
            )
            for key, decision in session.execute(decisions.order_by(DecisionRow.id)):
                said[key] = decision
    free = {None, ABOVE_REVIEW, NOT_CALIBRATED}
    return [
        Known(key, score, verdict, reason not in free, said.get(key))
        for key, score, verdict, reason in found
        if score is not None
    ]


def preview_of(calibration: Calibration, recent: Sequence[Known]) -> Preview:
    """The last parts under other thresholds."""
    moves: Counter[tuple[str, str]] = Counter()
    after: Counter[str] = Counter()
    told: Counter[str] = Counter()
    changed: list[tuple[Known, str]] = []
    for known in recent:
        verdict = known.verdict if known.bound else calibration.verdict(known.score)
        after[verdict] += 1
        if verdict != known.verdict:
            moves[known.verdict, verdict] += 1
            changed.append((known, verdict))
        if known.decision is not None:
            told[known.decision] += 1
            told[f"{known.decision} {verdict}"] += 1
    changed.sort(key=lambda pair: abs(pair[0].score - calibration.threshold))
    return Preview(
        calibration, dict(moves), changed[:SHOWN], after,
        good=told["pass"], false_alarms=told["pass fail"], bad=told["fail"],
        escapes=told["fail pass"],
    )  # fmt: skip


def _span(calibration: Calibration | None, scores: Sequence[float]) -> dict[str, Any]:
    """From where to where the sliders go, and in which steps."""
    known = [*scores]
    if calibration is not None:
        known += [*calibration.scores, calibration.threshold]
        if calibration.review_threshold is not None:
            known.append(calibration.review_threshold)
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = max((high - low) * 0.05, abs(high) * 0.01, 1e-6)
    low, high = low - room, high + room
    return {"low": low, "high": high, "step": (high - low) / 1000}


def _words(name: str) -> str:
    return name.replace("_", " ").replace("false alarm", "false-alarm")
