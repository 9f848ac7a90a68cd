"""A camera as a source: what is kept is what was inspected, and a lost camera comes back."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from line_tools import FAIL, PASS, Redness, eventually, health, made, recorded, running

from blemish.imaging import read_samples
from blemish.station.core import Station
from blemish.station.errors import StoreUnreachableError
from blemish.station.settings import CameraSource
from blemish.station.sources import CameraIntake
from blemish.station.sources import camera as camera_module


class Playing:
    """A camera that plays a list of BGR or grey frames, then gives none."""

    def __init__(self, frames: list[np.ndarray], opens: bool = True) -> None:
        self.frames, self.opens = list(frames), opens

    def isOpened(self) -> bool:
        return self.opens

    def read(self) -> tuple[bool, Any]:
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def grab(self) -> bool:
        return self.read()[0]

    def get(self, propId: int, /) -> float:
        return 0.0

    def set(self, propId: int, value: float, /) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""


def bgr(red: int, number: int = 0) -> np.ndarray:
    """A noisy frame that is about this red, other each time."""
    frame = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
    frame[..., 2] = red
    return frame


def told(**more: Any) -> CameraSource:
    """The source as station.toml has it."""
    return CameraSource(
        **{"kind": "camera", "name": "cam", "inspector": "board", "address": 0, "timeout_s": 0.2}
        | more
    )


def watching(station: Station, *cameras: Playing, **more: Any) -> CameraIntake:
    """A source of cameras that are opened one after another, as a part of a station."""
    left = list(cameras)

    def open_next(_: Any) -> Playing:
        return left.pop(0) if left else Playing([], opens=False)

    found = CameraIntake(told(**more), station.inspecting, open=open_next)
    station.parts.append(found)
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost camera is tried again soon."""
    from blemish.streams import camera

    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", 0.05)


def test_frames_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    """The PNG on record has the camera's pixels, in RGB; grey has three equal channels."""
    frames = [bgr(PASS, 1), bgr(FAIL, 2), bgr(PASS, 3)[..., 1]]
    station = made(tmp_path)
    watching(station, Playing([one.copy() for one in frames]))
    with station:
        eventually(lambda: len(recorded(station)) == 3)
        rows = recorded(station)
        kept = [read_samples(station.pictures.image(row.image_sha256)) for row in rows]
    assert np.array_equal(kept[0], frames[0][..., ::-1])
    assert np.array_equal(kept[1], frames[1][..., ::-1])
    assert np.array_equal(kept[2], np.stack([frames[2]] * 3, axis=-1))
    assert [row.verdict for row in rows][:2] == ["pass", "fail"]
    assert {row.source for row in rows} == {"cam"}
    assert all((row.image or "").startswith("camera 0#") for row in rows)


def test_two_equal_frames_are_two_parts(tmp_path: Path) -> None:
    """A camera's picture of another part may be the same to the last bit."""
    station = made(tmp_path)
    watching(station, Playing([bgr(PASS)] * 3))
    with station:
        eventually(lambda: len(recorded(station)) == 3)
        assert health(station, "cam").counts["repeated"] == 0


def test_a_camera_that_is_gone_is_opened_again(tmp_path: Path) -> None:
    """Not there, there, gone, there: the health says so, and frames go on."""
    station = made(tmp_path)
    absent = Playing([], opens=False)
    watching(station, absent, Playing([bgr(PASS, 1)]), absent, Playing([bgr(PASS, 2)]))
    with station:
        eventually(lambda: len(recorded(station)) == 1)
        eventually(lambda: health(station, "cam").state == "retrying")
        assert "camera 0" in health(station, "cam").last_error
        eventually(lambda: len(recorded(station)) == 2)
        eventually(lambda: health(station, "cam").counts["reconnects"] == 2)
    assert health(station, "cam").state == "stopped"


def test_a_frame_is_tried_again_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame that was taken is recorded once, also where only the answer was lost."""
    station = made(tmp_path)
    watching(station, Playing([bgr(PASS, 1), bgr(FAIL, 2)]))
    inspect = station.inspecting.inspect
    failures = [3]

    def lossy(part: Any) -> Any:
        found = inspect(part)  # committed, and then the connection breaks
        failures[0] -= 1
        if failures[0] >= 0:
            raise StoreUnreachableError("gone")
        return found

    monkeypatch.setattr(station.inspecting, "inspect", lossy)
    with station:
        eventually(lambda: health(station, "cam").counts["recorded"] == 1)
        assert [row.verdict for row in recorded(station)] == ["pass", "fail"]
        eventually(lambda: health(station, "cam").counts["repeated"] == 1)
        eventually(lambda: health(station, "cam").counts["retries"] == 3)


def test_frames_between_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `every_s` the next one is a fresh one, not the oldest of a queue."""
    clock = count(1)  # a second between two frames
    monkeypatch.setattr(camera_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    station = made(tmp_path)
    frames = [bgr(PASS, number) for number in range(30)]
    watching(station, Playing([one.copy() for one in frames]), every_s=10)
    with station:
        eventually(lambda: health(station, "cam").state == "retrying")
        kept = [read_samples(station.pictures.image(row.image_sha256)) for row in recorded(station)]
    assert len(kept) == 3
    for image, number in zip(kept, (0, 10, 20), strict=True):
        assert np.array_equal(image, frames[number][..., ::-1])


def test_the_settings_reach_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A station opens the address it was told, shows no password, and stops while it cannot."""
    opened: list[Any] = []

    def open_it(address: Any) -> Playing:
        opened.append(address)
        return Playing([], opens=False)

    monkeypatch.setattr(camera_module.CameraIntake.__init__, "__kwdefaults__", {"open": open_it})
    url = "rtsp://ada:secret@127.0.0.1/line"
    one = {"kind": "camera", "name": "cam", "inspector": "board", "address": url}
    with running(tmp_path, Redness(), sources=(one,)) as station:
        eventually(lambda: health(station, "cam").state == "retrying")
        assert "secret" not in health(station, "cam").last_error
    assert opened[0] == url
