"""A station with made-up circuit boards, a past of some weeks, and people: for pages to show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from blemish.demo.parts import DEFECTS, render
from blemish.detectors import HETMM
from blemish.inspector import Inspector
from blemish.station.core import Station
from blemish.station.inspecting import Part
from blemish.station.parts import PartHealth
from blemish.station.people import Person
from blemish.station.settings import read_settings
from blemish.station.store import new_id, now
from blemish.station.store.inspections import _tally, awaiting
from blemish.station.store.tables import AlarmRow, InspectionRow, QueueRow
from blemish.station.store.types import least_id

PEOPLE = {"Ada": "operator", "Grace": "engineer", "Linus": "engineer", "Root": "admin"}


def board(seed: int, defect: str | None = None, size: int = 256, dim: float = 1.0) -> bytes:
    """PNG bytes of a made-up board."""
    pixels = render(seed, defect, size).image
    pixels = np.clip(pixels.astype(np.float32) * dim, 0, 255).astype(np.uint8)
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def fit_board(folder: Path, *, good: int, size: int) -> None:
    """A bundle `board.blemish` in `folder`, calibrated, with room for review."""
    images = [render(seed, size=size).image for seed in range(good)]
    inspector = Inspector(HETMM(sheets=None), size=size, device="cpu")
    inspector.fit(images, by="Grace")
    inspector.calibrate(false_alarm_rate=max(0.02, 1 / good), review_rate=max(0.1, 2 / good))
    inspector.save(folder / "board.blemish")


class Quiet:
    """Parts of a station that say how they are, and do nothing."""

    def __init__(self, *entries: PartHealth) -> None:
        self.entries = list(entries)

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing ends."""

    def health(self) -> list[PartHealth]:
        """What it was told."""
        return self.entries


def open_station(folder: Path, **given: object) -> tuple[Station, dict[str, str]]:
    """A station over the bundles in `folder`, and the token of each of PEOPLE."""
    station = Station(read_settings(folder, name="line-3", port=0, **given))
    return station, {name: station.people.give(name, role) for name, role in PEOPLE.items()}


def send(station: Station, data: bytes, part_id: str, **told: object) -> InspectionRow:
    """Inspect a part and put it on record."""
    judged, _ = station.inspecting.inspect(
        Part(
            "board", data, source="camera-1", part_id=part_id, image=f"{part_id}.png", metadata=told
        )
    )
    return judged.row


def seed_past(station: Station, rows: Sequence[InspectionRow], days: int, each_day: int) -> int:
    """Copies of recorded parts over the last `days`, with other scores; returns how many."""
    rng = np.random.default_rng(7)
    good = [row for row in rows if row.verdict == "pass"]
    bad = [row for row in rows if row.verdict in {"fail", "review"}]
    moments = []
    for day in range(days, 0, -1):
        for index in range(each_day):
            hours = 8 + 16 * (index + rng.random()) / each_day  # two shifts, the last ends now
            moments.append(now() - timedelta(days=day) + timedelta(hours=hours))
    moments = sorted(moment for moment in moments if moment < now() - timedelta(minutes=20))
    with station.database.writing() as session:
        for moment in moments:
            row = _past(rng, moment, good, bad)
            session.add(row)
            session.flush()
            _tally(session, row)
            if row.verdict == "review":
                near = row.nearness or 0.0
                session.add(QueueRow(inspection_id=row.id, inspector="board", nearness=near))
    return len(moments)


def _past(
    rng: np.random.Generator, moment: datetime, good: list[InspectionRow], bad: list[InspectionRow]
) -> InspectionRow:
    row = (
        bad[rng.integers(len(bad))]
        if bad and rng.random() < 0.05
        else good[rng.integers(len(good))]
    )
    values = {c.key: getattr(row, c.key) for c in InspectionRow.__mapper__.column_attrs}
    key = least_id(moment)[:-12] + new_id()[-12:]
    assert row.score is not None
    assert row.threshold is not None
    calibrated = row.review_threshold or row.threshold
    score = row.score * float(rng.normal(1, 0.03))
    if row.verdict == "pass":
        score = min(score, calibrated * float(rng.uniform(0.97, 0.999)))
    verdict = "fail" if score > row.threshold else "review" if score > calibrated else "pass"
    changed = {
        "id": key, "recorded_at": moment, "part_id": f"B-{moment:%m%d}-{key[-4:]}",
        "score": score, "verdict": verdict,
        "latency_ms": row.latency_ms * float(rng.gamma(40, 1 / 40)),
        "reason": "above the review threshold" if verdict == "review" else None,
        "nearness": abs(score - row.threshold) / row.threshold, "request_key": None,
    }  # fmt: skip
    return InspectionRow(**values | changed)


def decide_past(station: Station, keep: int) -> None:
    """Ada has decided all parts in review but the newest ones."""
    waiting = sorted(awaiting(station.database, limit=500), key=lambda one: one.row.id)
    ada = Person("Ada", "operator")
    for judged in waiting[: max(0, len(waiting) - keep)]:
        assert judged.row.score is not None
        assert judged.row.threshold is not None
        near = judged.row.score > 0.98 * judged.row.threshold
        station.reviewing.decide(judged.row.id, "fail" if near else "pass", ada)


def raise_alarm(station: Station) -> None:
    """An alarm as the drift watch raises it."""
    with station.database.writing() as session:
        session.add(
            AlarmRow(
                id=new_id(), station="line-3", inspector="board", measure="brightness",
                message="the last 200 parts are darker than the good parts: 0.31 instead of 0.38; "
                "look at the lamp",
                evidence={}, raised_at=now() - timedelta(minutes=41),
            )
        )  # fmt: skip


def fill(
    station: Station, *, size: int, parts: int = 60, days: int = 9, each_day: int = 420
) -> None:
    """Parts good and flawed, dim ones that go to review, and a past."""
    rng = np.random.default_rng(3)
    rows = []
    for index in range(parts):
        flaw = DEFECTS[index // 6 % len(DEFECTS)] if index % 6 == 5 else None
        data = board(1000 + index, flaw, size)
        rows.append(
            send(station, data, f"B-{4100 + index}", shift="early", lot=int(rng.integers(90)))
        )
    seed_past(station, rows, days, each_day)
    decide_past(station, keep=14)
