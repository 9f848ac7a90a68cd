"""What the tests of sources and sinks share: an inspector by colour, and a station of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sqlalchemy import select

from blemish.imaging import read_image
from blemish.station.core import Station
from blemish.station.settings import Settings
from blemish.station.shelf import Held
from blemish.station.store.inspections import Live, Thresholds
from blemish.station.store.tables import DeliveryRow, InspectionRow
from blemish.verdict import Inspection

DEADLINE = 60.0  # s: other processes may hold the machine
PASS, REVIEW, FAIL = 10, 120, 200  # how red a part is, and so its verdict


def eventually(condition: Callable[[], object], what: object = "") -> None:
    """Wait until a condition holds, or fail."""
    until = time.monotonic() + DEADLINE
    while not condition():
        told = what() if callable(what) else what
        assert time.monotonic() < until, f"did not happen in time: {told}"
        time.sleep(0.01)


def encoded(red: int, number: int = 0) -> bytes:
    """A PNG of 8 x 8 px that is this red, told apart by its number."""
    image = np.full((8, 8, 3), red, np.uint8)
    image[..., 1], image[..., 2] = number % 256, number // 256
    done, data = cv2.imencode(".png", image[..., ::-1])
    assert done
    return data.tobytes()


class Redness:
    """An inspector by colour: above 160 is a fail, above 80 for a person to see."""

    version = 1
    calibration = None

    def __init__(self) -> None:
        self.seconds = 0.0  # that an inspection takes
        self.calls = 0

    def inspect(self, data: bytes) -> Inspection:
        self.calls += 1
        time.sleep(self.seconds)
        image = read_image(data)
        red = float(image[0, 0, 0]) * 255
        verdict = "fail" if red > 160 else "review" if red > 80 else "pass"
        anomaly_map = np.full((2, 2), red, np.float32)
        return Inspection(
            red, 0.5, 160.0, verdict, anomaly_map, image_size=image.shape[:2], inspector="board",
            version=1, latency_ms=1.0, review_threshold=80.0,
            reason="above the review threshold" if verdict == "review" else None,
        )  # fmt: skip


def shelve(station: Station, inspector: Any, name: str = "board") -> None:
    """Put an inspector on the shelf, without a bundle."""
    live = Live(name, 1, "0" * 64, "2026-01-01T00:00:00+00:00", Thresholds(160.0, 80.0))
    held = Held(name, station.settings.bundles / f"{name}.blemish", inspector, live)
    held_before = station.shelf.get

    def get(wanted: str) -> Held:
        return held if wanted == name else held_before(wanted)

    station.shelf.get = get  # type: ignore[method-assign]


def made(folder: Path, inspector: Any = None, **told: Any) -> Station:
    """A station of `sources` and `sinks` as in station.toml, with an inspector `board`."""
    station = Station(Settings(bundles=folder, **{"name": "line-1"} | told))
    shelve(station, inspector or Redness())
    return station


@contextmanager
def running(folder: Path, inspector: Any = None, **told: Any) -> Iterator[Station]:
    """That, started and in the end stopped."""
    with made(folder, inspector, **told) as station:
        yield station


def recorded(station: Station) -> list[InspectionRow]:
    """All inspections in the store, oldest first."""
    with station.database.reading() as session:
        return list(session.scalars(select(InspectionRow).order_by(InspectionRow.id)))


def deliveries(station: Station) -> list[DeliveryRow]:
    """All deliveries in the store, oldest first."""
    with station.database.reading() as session:
        return list(session.scalars(select(DeliveryRow).order_by(DeliveryRow.id)))


def health(station: Station, name: str) -> Any:
    """How a source or sink is doing."""
    return next(entry for entry in station.health() if entry.name == name)


def part_of(station: Station, name: str) -> Any:
    """A source or sink of a station."""
    return next(part for part in station.parts if part.health()[0].name == name)
