"""The watch over drift: real made-up parts, and alarms that are raised once, last and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drafts import draft
from sqlalchemy import select
from test_store import decide

from blemish.demo.parts import render
from blemish.detectors import HETMM
from blemish.errors import BundleError
from blemish.inspector import Inspector
from blemish.station.drift import DriftWatch
from blemish.station.drift.watching import calibration_references
from blemish.station.settings import DriftSettings
from blemish.station.shelf import Held, Shelf, live_of
from blemish.station.store import Database, Draft, record
from blemish.station.store.tables import AlarmRow
from common import SIZE

WINDOW = 30
Pixels = np.ndarray


class Line:
    """A line whose inspector judges made-up parts, with a watch over them."""

    def __init__(self, folder: Path, inspector: Inspector) -> None:
        self.database = Database(f"sqlite:///{folder / 'station.db'}")
        self.database.migrate()
        self.shelf = Shelf(folder)
        self.inspector = inspector
        self.held = Held("board", folder, inspector, live_of("board", inspector))
        self.shelf._held["board"] = self.held
        settings = DriftSettings(window=WINDOW, false_alarm_rate=0.001, every_s=0.05)
        self.watch = DriftWatch(self.database, self.shelf, settings, "line-1")
        self._seed = 1000

    def parts(self, number: int, change: Callable[[Pixels], Pixels] = lambda image: image) -> None:
        """So many more good parts, as the camera sees them after a change."""
        for _ in range(number):
            self._seed += 1
            self.inspected(change(render(self._seed, size=SIZE).image))

    def inspected(self, image: Pixels) -> None:
        """Record one part as the station does."""
        result = self.inspector.inspect(image)
        record(
            self.database,
            Draft(
                station="line-1", source="http", live=self.held.live, image_sha256="ab" * 32,
                verdict=result.verdict, latency_ms=1.0, score=result.score,
                p_value=result.p_value, reason=result.reason,
                **{name: result.measures.get(name) for name in
                   ("brightness", "sharpness", "residual")},
            ),
        )  # fmt: skip

    def told(self, *, score: float = 0.5, **values: Any) -> str:
        """Record a part of which only these values are known."""
        made = record(self.database, draft(score=score, **values))[0].row
        return made.id

    def alarms(self) -> list[AlarmRow]:
        """All of them, oldest first."""
        with self.database.reading() as session:
            return list(session.scalars(select(AlarmRow).order_by(AlarmRow.id)))

    def looked(self) -> dict[str, str]:
        """The open alarms after a look: measure to message."""
        self.watch.look()
        return {alarm.measure: alarm.message for alarm in self.watch.open_alarms()}


@pytest.fixture
def line(tmp_path: Path, fitted: Inspector) -> Iterator[Line]:
    """A line of the inspector that all tests share."""
    found = Line(tmp_path, fitted)
    yield found
    found.database.close()


@pytest.fixture(scope="module")
def aligned(parts: Path) -> Inspector:
    """An inspector that moves parts to where the golden image has them."""
    inspector = Inspector(HETMM(sheets=None), size=SIZE, device="cpu", align="translation")
    return inspector.fit(parts / "train" / "good").calibrate(false_alarm_rate=0.05)


def dimmed(image: Pixels) -> Pixels:
    """A lamp that gives less light."""
    return (image * 0.8).astype(np.uint8)


def blurred(image: Pixels) -> Pixels:
    """A lens out of focus."""
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def turned(image: Pixels) -> Pixels:
    """A fixture that has come loose."""
    middle = (image.shape[1] / 2, image.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(middle, 15, 1)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def test_good_parts_raise_no_alarm(line: Line) -> None:
    """Parts like those of the calibration, at look after look; the watch knows all references."""
    for _ in range(3):
        line.parts(WINDOW)
        assert line.looked() == {}
    references = calibration_references(line.inspector)
    assert set(references.by_measure) == {"score", "brightness", "sharpness"}
    assert len(references.by_measure["brightness"].values) == 20


def test_the_calibration_pictures_are_measured_as_parts_are(line: Line, parts: Path) -> None:
    """The same image gives the same brightness and sharpness from the bundle and at the line."""
    references = calibration_references(line.inspector).by_measure
    results = [
        line.inspector.inspect(path).measures for path in (parts / "train" / "good").iterdir()
    ]
    for name in ("brightness", "sharpness"):
        seen = sorted(measures[name] for measures in results)
        assert np.sort(references[name].values) == pytest.approx(seen, rel=1e-5)


def test_a_dimmed_lamp_is_named(line: Line) -> None:
    """Though most of the parts fail because of it; from how much to how much is told."""
    line.parts(WINDOW, dimmed)
    alarms = line.looked()
    assert "the lamp or the exposure may have changed" in alarms["brightness"]
    before, now = calibration_references(line.inspector).by_measure["brightness"].values, None
    middle = float(np.median(before))
    assert alarms["brightness"].startswith(f"brightness fell from {middle:.3g} to ")
    now = float(alarms["brightness"].split(" to ")[1].split(";")[0])
    assert now == pytest.approx(0.8 * middle, rel=0.05)


def test_a_lens_out_of_focus_is_named(line: Line) -> None:
    """And the light is not."""
    line.parts(WINDOW, blurred)
    alarms = line.looked()
    assert "the lens may be dirty or out of focus" in alarms["sharpness"]
    assert "brightness" not in alarms


def test_a_loose_fixture_is_named(tmp_path: Path, aligned: Inspector) -> None:
    """Against the version's first parts, as a calibration knows no residual; this is told."""
    line = Line(tmp_path, aligned)
    line.parts(WINDOW)
    assert line.looked() == {}
    line.parts(WINDOW, turned)
    alarms = line.looked()
    assert "residual rose from" in alarms["residual"]
    assert f"(against the first {WINDOW} parts of version" in alarms["residual"]
    assert "the fixture" in alarms["residual"]
    line.database.close()


# How long an alarm lasts ---------------------------------------------------------------------


@pytest.fixture
def told(line: Line) -> Line:
    """The line with parts of which just the score is told: like the calibration, or higher."""
    scores = line.inspector.calibration
    assert scores is not None
    rng = np.random.default_rng(0)
    line.good = lambda number: [  # type: ignore[attr-defined]
        line.told(score=float(one), inspector="board", version=line.held.live.version)
        for one in rng.choice(scores.scores, number)
    ]
    line.bad = lambda number: [  # type: ignore[attr-defined]
        line.told(score=scores.scores[-1] * 2, inspector="board", version=line.held.live.version)
        for _ in range(number)
    ]
    return line


def test_an_alarm_is_raised_once_lasts_and_ends_after_a_full_window(told: Any) -> None:
    """Also over a restart of the station, and what comes later is another alarm."""
    told.good(WINDOW)
    assert told.looked() == {}
    told.bad(WINDOW)
    assert list(told.looked()) == ["score"]
    told.bad(3)
    told.watch = DriftWatch(told.database, told.shelf, told.watch.settings, "line-1")
    assert list(told.looked()) == ["score"]
    (alarm,) = told.alarms()
    assert alarm.evidence["reference"] == "the calibration set"
    assert alarm.evidence["superiority"] == 1.0
    told.good(WINDOW - 1)
    assert list(told.looked()) == ["score"]  # the window still has a part of the bad time
    told.good(1)
    assert told.looked() == {}
    assert [one.id for one in told.alarms()] == [alarm.id]
    ended = told.alarms()[0].ended_at
    assert ended is not None
    assert ended > alarm.raised_at
    told.bad(WINDOW)
    assert list(told.looked()) == ["score"]
    assert len(told.alarms()) == 2


def test_too_few_parts_say_nothing(told: Any) -> None:
    """Nor do those of another version, station or inspector, or without a score."""
    told.bad(WINDOW - 1)
    for _ in range(2):
        for other in ({"version": 99}, {"station": "line-2"}, {"inspector": "nut"}):
            version = told.held.live.version
            told.told(score=9e9, **{"inspector": "board", "version": version} | other)
        told.told(score=None, verdict="error", inspector="board", version=version)
    assert told.looked() == {}
    told.bad(1)
    assert list(told.looked()) == ["score"]


def test_a_look_without_new_parts_reads_none(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for the newest part and no more."""
    told.good(WINDOW)
    told.watch.look()
    monkeypatch.setattr(told.watch, "_read", None)
    told.watch.look()
    told.good(1)
    with pytest.raises(TypeError):
        told.watch.look()


def test_an_inspector_that_cannot_be_looked_at_hides_no_other(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm is raised, then the problem is told."""
    broken = type(told.held)("a-nut", told.held.folder, told.inspector, told.held.live)
    told.shelf._held["a-nut"] = broken
    told.bad(WINDOW)
    read = told.watch._window_of

    def failing(held: Held) -> Any:
        if held is broken:
            raise BundleError("the pictures of 'a-nut' are damaged")
        return read(held)

    monkeypatch.setattr(told.watch, "_window_of", failing)
    with pytest.raises(BundleError, match="are damaged"):
        told.watch.look()
    assert [alarm.inspector for alarm in told.alarms()] == ["board"]


def test_what_a_person_calls_bad_does_not_count_for_the_camera(told: Any) -> None:
    """A part in review does, until somebody says that it is a defect."""
    version = told.held.live.version
    keys = [
        told.told(score=0.1, verdict="review", version=version, brightness=0.5)
        for _ in range(WINDOW)
    ]
    for key in keys[:5]:
        decide(told.database, key, "pass")
        decide(told.database, key, "fail")
    window = told.watch._read(told.held, newest_first=True)
    assert window.ids == tuple(keys)
    assert window.passed.tolist() == [False] * 5 + [True] * (WINDOW - 5)
    assert len(window.of("brightness")) == WINDOW - 5
    assert len(window.of("score")) == WINDOW


def test_a_new_version_is_compared_with_its_own_calibration(told: Any) -> None:
    """An alarm of the version before ends when a window of the new one is as it should be."""
    told.bad(WINDOW)
    assert list(told.looked()) == ["score"]
    live = told.held.live
    newer = type(live)(live.inspector, live.version + 1, "cd" * 32, live.created, live.thresholds)
    told.held = type(told.held)("board", told.held.folder, told.inspector, newer)
    told.shelf._held["board"] = told.held
    told.good(WINDOW - 1)
    assert list(told.looked()) == ["score"]
    told.good(1)
    assert told.looked() == {}


def test_the_watch_is_a_part_of_the_station(told: Any) -> None:
    """It looks again and again; its health counts the open alarms."""
    told.bad(WINDOW)
    part = told.watch.part()
    part.start()
    end = time.monotonic() + 20
    while part.health()[0].counts["alarms"] == 0:
        assert time.monotonic() < end
        time.sleep(0.02)
    part.stop()
    health = part.health()[0]
    assert (health.kind, health.counts["alarms"], health.last_error) == ("drift", 1, None)


def test_a_look_is_quick(told: Any) -> None:
    """Under 50 ms with a window of 30 of two hundred parts, the best of several."""
    told.good(200)
    spent = []
    for _ in range(7):
        told.good(1)
        started = time.perf_counter()
        told.watch.look()
        spent.append(time.perf_counter() - started)
    assert min(spent) < 0.05
