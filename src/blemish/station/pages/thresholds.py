"""The threshold page: what other thresholds would have made of the last parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from blemish.errors import BlemishError, ParameterError
from blemish.station.api.access import Engineer, Here, Viewer
from blemish.station.api.schemas import InspectorName
from blemish.station.pages.rendering import fragment, go, page, path
from blemish.station.store.statistics import Changes, Recent, changes, judged_by, recent
from blemish.verdict import Calibration, Rule
from blemish.verdict.rule import least_rate

router = APIRouter()

LAST = 1000  # parts that are judged again
SHOWN = 12  # of those that would change
_FIELDS = ("false_alarm_rate", "confidence", "review_rate", "threshold", "review_threshold")
_IN_PERCENT = {"false_alarm_rate", "confidence", "review_rate"}


class Changed(NamedTuple):
    """A part that would have another verdict."""

    id: str
    score: float
    before: str
    after: str


@dataclass(frozen=True)
class Preview:
    """What thresholds would have made of the last parts."""

    calibration: Calibration
    changes: Changes
    changed: list[Changed]  # the nearest to the threshold first, a few

    @property
    def moves(self) -> dict[tuple[str, str], int]:
        """How many verdicts would change, from what to what."""
        moved = self.changes.moved.items()
        return {(before, after): count for (before, after), count in moved if before != after}

    @property
    def count(self) -> int:
        """How many verdicts would change."""
        return sum(self.moves.values())

    def decided(self, decision: str, verdict: str | None = None) -> int:
        """How many parts that people decided so would have this verdict, or any."""
        pairs = self.changes.decided.items()
        return sum(
            count for (said, after), count in pairs if said == decision and verdict in {None, after}
        )


@router.get("/inspectors/{name}/threshold")
def threshold_page(
    request: Request, station: Here, person: Viewer, name: InspectorName
) -> Response:
    """Scores of good and of recent parts, and the thresholds among them."""
    held = station.shelf.get(name)
    calibration = held.inspector.calibration
    parts = recent(station.database, name, parts=LAST)
    preview = None if calibration is None else preview_of(calibration, parts)
    scores = parts.scores.tolist()
    return page(
        request, person, "threshold.html", held=held, live=held.live, calibration=calibration,
        recent=scores, count=len(scores), preview=preview, problem=None,
        span=_span(calibration, scores),
        least=None if calibration is None else least_rate(len(calibration.scores)),
    )  # fmt: skip


@router.get("/inspectors/{name}/threshold/preview")
def preview_part(request: Request, station: Here, person: Viewer, name: InspectorName) -> Response:
    """What would change; a rule that cannot be kept is told in its place."""
    calibration = station.shelf.get(name).inspector.calibration
    parts = recent(station.database, name, parts=LAST)
    preview, problem = None, None
    try:
        if calibration is None:
            raise ParameterError("it has no calibration yet; calibrate it with good parts first")
        preview = preview_of(calibration.under(rule_of(request.query_params)), parts)
    except BlemishError as error:
        problem = str(error)
    return fragment("_preview.html", person, preview=preview, problem=problem, count=len(parts.ids))


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


def preview_of(calibration: Calibration, parts: Recent) -> Preview:
    """The last parts under other thresholds."""
    limits = calibration.threshold, calibration.review_threshold
    judged = zip(
        parts.ids, parts.scores.tolist(), parts.verdicts, judged_by(parts, *limits), strict=True
    )
    changed = [Changed(*one) for one in judged if one[2] != one[3]]
    changed.sort(key=lambda one: abs(one.score - calibration.threshold))
    return Preview(calibration, changes(parts, *limits), changed[:SHOWN])


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
