"""What the API is asked and answers, for its OpenAPI description (results.py makes results)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, Field

UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
Id = Annotated[str, Path(pattern=UUID, description="An id as the station gave it.")]
Cursor = Annotated[
    str | None, Query(pattern=UUID, description="`next` of the page before; none: the newest.")
]
InspectorName = Annotated[str, Path(max_length=255, description="A bundle's name.")]
Verdict = Literal["pass", "review", "fail", "error"]
Saying = Literal["pass", "fail"]


class Region(BaseModel):
    """A defect candidate, in image pixels; `peak` in score units."""

    box: list[int] = Field(min_length=4, max_length=4, description="x, y, width, height")
    area: int
    peak: float
    template: str | None = None


class DecisionOut(BaseModel):
    """What a person said of a part."""

    decision: Saying
    by: str
    note: str
    decided_at: str


class ErrorOut(BaseModel):
    """Why an image could not be inspected."""

    code: str
    message: str


class InspectionOut(BaseModel):
    """One inspection: the object of `blemish inspect`, and where and how it is on record."""

    model_config = {"populate_by_name": True}

    schema_: str = Field(alias="schema")
    id: str
    recorded_at: str
    station: str
    source: str
    part_id: str | None
    correlation_id: str | None
    image: str | None
    image_sha256: str
    image_size: list[int] | None = Field(description="width, height")
    score: float | None
    p_value: float | None
    threshold: float | None
    review_threshold: float | None
    threshold_id: int
    verdict: Verdict
    reason: str | None
    regions: list[Region]
    inspector: str
    version: int
    bundle_sha256: str
    latency_ms: float
    timings: dict[str, float]
    metadata: dict[str, Any]
    overlay_url: str
    map_url: str | None
    decision: DecisionOut | None
    error: ErrorOut | None = None


class InspectionPage(BaseModel):
    """Some inspections, newest first."""

    inspections: list[InspectionOut]
    next: str | None = Field(description="The cursor of the page that follows; null: no more.")


class Batch(BaseModel):
    """The inspections of a batch, in the order of its images."""

    inspections: list[InspectionOut]


class ThresholdsOut(BaseModel):
    """What an inspector judges by, and what was promised of it."""

    threshold: float | None
    review_threshold: float | None
    promise: str | None
    false_alarm_rate: float | None
    confidence: float | None
    review_rate: float | None


class InspectorOut(BaseModel):
    """An inspector on the shelf; one that cannot be used has a `problem` and nothing else."""

    name: str
    version: int | None = None
    created: str | None = None
    bundle_sha256: str | None = None
    templates: int | None = None
    thresholds: ThresholdsOut | None = None
    problem: str | None = None


class VersionOut(BaseModel):
    """One version of an inspector."""

    version: int
    created: str
    kind: str
    by: str
    note: str
    added: list[str]
    removed: list[str]
    restored: int | None
    templates: int
    threshold: float | None
    false_alarm_rate: float | None
    review_threshold: float | None
    promise: str | None


class TemplateOut(BaseModel):
    """A template of the live version."""

    id: str
    source: str
    added: str
    version: int
    by: str
    note: str


class RegressionPartOut(BaseModel):
    """A part whose verdict is known, judged again before each new version goes live."""

    id: str
    inspector: str
    inspection_id: str
    expected: Saying
    added_by: str
    added_at: str
    note: str


class RegressionResult(BaseModel):
    """What two versions made of a regression part."""

    id: str
    inspection_id: str
    expected: Saying
    before: Verdict
    after: Verdict
    outcome: Literal["right", "mended", "still wrong", "worse"]


class ChangeOut(BaseModel):
    """A change of an inspector through the station, made (`live`) or `refused`."""

    id: str
    inspector: str
    station: str
    kind: str
    outcome: Literal["live", "refused"]
    before: int
    after: int | None
    by: str
    proposed_by: str | None
    note: str
    changed_at: str
    notes: list[str] = Field(default_factory=list)
    regression: list[RegressionResult] = Field(default_factory=list)


class CandidateOut(BaseModel):
    """A part proposed as a template, and what a second person said of it."""

    id: str
    inspection_id: str
    inspector: str
    state: Literal["waiting", "approved", "rejected"]
    proposed_by: str
    proposed_at: str
    note: str
    decided_by: str | None
    decided_at: str | None
    answer: str
    version: int | None


class Note(BaseModel):
    """Why."""

    note: str = Field(default="", max_length=2000)


class DecisionIn(Note):
    """What a person says of a part."""

    decision: Saying


class ChangeIn(Note):
    """A change of an inspector."""

    force: bool = Field(
        default=False, description="Go live though a regression part is judged worse than before."
    )


class RollbackIn(ChangeIn):
    """Which version to bring back."""

    version: int = Field(ge=1, le=2**31 - 1)


class ThresholdsIn(ChangeIn):
    """A promise (`false_alarm_rate` and what goes with it), or a threshold set by hand."""

    false_alarm_rate: float | None = Field(default=None, gt=0, lt=1)
    confidence: float | None = Field(default=None, gt=0, lt=1)
    review_rate: float | None = Field(default=None, gt=0, lt=1)
    threshold: float | None = None
    review_threshold: float | None = None


class HealthOut(BaseModel):
    """How a part of the station is doing."""

    kind: str
    name: str
    state: str
    last_error: str | None
    counts: dict[str, int]


class Ready(BaseModel):
    """Whether parts can be sent here."""

    ready: bool
    station: str
    inspectors: list[str]
    waiting: int
    parts: list[HealthOut]


class Me(BaseModel):
    """Who asks, and what they may do."""

    name: str
    role: str
    signed_in: bool


class TokenIn(BaseModel):
    """For whom a token is."""

    name: str = Field(min_length=1, max_length=64)
    role: Literal["viewer", "operator", "engineer", "admin"]


class TokenOut(BaseModel):
    """A token on record."""

    name: str
    role: str
    created_at: str
    revoked: bool


class TokenGiven(BaseModel):
    """A new token, told this once."""

    name: str
    role: str
    token: str


class Step(BaseModel):
    """What was inspected from `begin` to the next step."""

    begin: str
    parts: int
    verdicts: dict[str, int]
    yield_: float | None = Field(alias="yield", description="The share that passed by itself.")
    score_mean: float | None
    score_max: float | None
    latency_mean_ms: float | None
    latency_max_ms: float | None


class LatencyOut(BaseModel):
    """Of the newest parts, in ms."""

    parts: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class StatisticsOut(BaseModel):
    """Counts by steps of time, those with parts, and how long the newest parts took."""

    steps: list[Step]
    latency_ms: LatencyOut


class AlarmOut(BaseModel):
    """What has moved away from the calibration set, since when, and who has seen it."""

    id: str
    station: str
    inspector: str
    measure: str
    message: str
    evidence: dict[str, Any]
    raised_at: str
    ended_at: str | None
    seen_by: str | None


class DeliveryOut(BaseModel):
    """A result that a sink would not take, and why."""

    id: str
    inspection_id: str
    station: str
    sink: str
    tries: int
    last_error: str | None
    ended_at: str | None


class Resent(BaseModel):
    """What is sent again."""

    id: str
