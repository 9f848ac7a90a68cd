"""Cameras: made-up ones that fail in every way, a real video as one, and a machine without any."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from stream_tools import DEADLINE, eventually, write_video

from blemish.errors import CameraError, ParameterError
from blemish.streams import Camera, Frame, camera

URL = "rtsp://ada:se/cr#et@10.0.0.7:554/line?token=abc"


class FakeCapture:
    """A camera that plays a list: numbers are frames, None is no frame, an event hangs."""

    def __init__(self, plays: list[Any], opens: bool = True) -> None:
        self.plays = plays
        self.opens = opens
        self.released = 0
        self.set_to: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self.opens

    def read(self) -> tuple[bool, Any]:
        now = self.plays.pop(0) if self.plays else None
        if isinstance(now, threading.Event):
            assert now.wait(DEADLINE)
            return False, None
        if isinstance(now, Exception):
            raise now
        if now is None:
            return False, None
        return True, np.full((2, 3, 3), (now, 0, 200), np.uint8)  # BGR

    def grab(self) -> bool:
        return self.read()[0]

    def get(self, propId: int, /) -> float:
        return self.set_to.get(propId, 0.0)

    def set(self, propId: int, value: float, /) -> bool:
        self.set_to[propId] = value
        return propId != cv2.CAP_PROP_GAIN

    def release(self) -> None:
        self.released += 1


def playing(*captures: FakeCapture) -> Callable[[Any], FakeCapture]:
    """What opens these one after another."""
    left = list(captures)
    return lambda where: left.pop(0)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(camera, "_LONGEST_PAUSE", 0.02)


def numbers(frames: Iterator[Frame], count: int) -> list[int]:
    """The next frames by their numbers, which lie in the third colour, as RGB has it."""
    found = [next(frames).image for _ in range(count)]
    assert all(image.shape == (2, 3, 3) and image[0, 0, 0] == 200 for image in found)
    return [int(image[0, 0, 2]) for image in found]


def test_frames_until_it_gives_no_more() -> None:
    """Frames come as RGB, a read that gives nothing is tried again, and silence is an error."""
    capture = FakeCapture([1, 2, None, 3])
    source = Camera(0, timeout=0.1, open=playing(capture))
    frames = iter(source)
    assert numbers(frames, 3) == [1, 2, 3]
    with pytest.raises(CameraError, match=r"camera 0 gives no more frames \(waited 0\.1 s\)"):
        next(frames)
    assert (source.health.state, source.health.frames) == ("failed", 3)
    eventually(lambda: capture.released == 1, "the release")


def test_names_tell_frames_apart() -> None:
    """A frame is named by its camera and the moment, so that no two of two runs are the same."""
    frames = list(islice(Camera("3", open=playing(FakeCapture([1, 2, 3]))), 3))
    names = [frame.name for frame in frames]
    assert len(set(names)) == 3
    assert all(name.startswith("camera 3#2") and name.endswith("Z") for name in names)
    assert [frame.number for frame in frames] == [0, 1, 2]


def test_cannot_be_opened() -> None:
    """A camera that does not open is one sentence that says what to look at."""
    source = Camera(1, open=playing(FakeCapture([], opens=False)))
    with pytest.raises(CameraError, match=r"camera 1 cannot be opened; check that it is connected"):
        next(iter(source))
    assert source.health.state == "failed"


@pytest.mark.skipif(bool(list(Path("/dev").glob("video*"))), reason="this machine has a camera")
def test_machine_without_a_camera() -> None:
    """OpenCV itself, where there is no camera, gives the same sentence."""
    with pytest.raises(CameraError, match="camera 0 cannot be opened"):
        next(iter(Camera(0)))


def test_video_as_a_camera(tmp_path: Path) -> None:
    """OpenCV itself: all frames of what it can open, and then the error of a camera gone."""
    red = np.full((48, 64, 3), (200, 10, 0), np.uint8)
    video = write_video(tmp_path / "red.avi", [red] * 5)
    frames = iter(Camera(str(video), timeout=0.1))
    for _ in range(5):
        assert np.abs(next(frames).image.reshape(-1, 3).mean(axis=0) - (200, 10, 0)).max() < 8
    with pytest.raises(CameraError, match=r"red\.avi gives no more frames"):
        next(frames)


def test_driver_that_hangs() -> None:
    """A read that never returns is an error after the timeout; the camera is released later."""
    back = threading.Event()
    capture = FakeCapture([1, back])
    frames = iter(Camera(0, timeout=0.05, open=playing(capture)))
    assert numbers(frames, 1) == [1]
    with pytest.raises(CameraError, match="no more frames"):
        next(frames)
    assert capture.released == 0
    back.set()
    eventually(lambda: capture.released == 1, "the release")


def test_opening_that_hangs() -> None:
    """So is a call to open that never returns."""
    back = threading.Event()
    capture = FakeCapture([])

    def hanging(where: Any) -> FakeCapture:
        assert back.wait(DEADLINE)
        return capture

    with pytest.raises(CameraError, match=r"camera 0 does not open \(waited 0\.05 s\)"):
        next(iter(Camera(0, open_timeout=0.05, open=hanging)))
    back.set()
    eventually(lambda: capture.released == 1, "the release")


def test_reconnects(caplog: pytest.LogCaptureFixture) -> None:
    """With `reconnect` it is opened until it gives frames again, which are numbered on."""
    captures = [
        FakeCapture([1, 2]),
        FakeCapture([], opens=False),
        FakeCapture([], opens=False),
        FakeCapture([3]),
    ]
    source = Camera(0, timeout=0.05, reconnect=True, open=playing(*captures))
    frames = iter(source)
    assert numbers(frames, 2) == [1, 2]
    frame = next(frames)
    assert (frame.image[0, 0, 2], frame.number) == (3, 2)
    assert (source.health.state, source.health.counts) == ("running", {"reconnects": 1})
    assert "cannot be opened" in str(source.health.last_error)
    lost, found = (record.getMessage() for record in caplog.records)
    assert lost.startswith("camera 0 gives no more frames (waited 0.05 s); check its cable")
    assert lost.endswith("; trying again")
    assert found == "camera 0 gives frames again"
    assert [capture.released for capture in captures[:3]] == [1, 1, 1]
    source.close()


def test_reconnects_only_after_the_hanging_call() -> None:
    """A driver that hangs still holds the camera: no second call is made into it meanwhile."""
    back = threading.Event()
    opened: list[int] = []
    captures = [FakeCapture([1, back]), FakeCapture([2])]

    def open(where: Any) -> FakeCapture:
        opened.append(where)
        return captures[len(opened) - 1]

    source = Camera(0, timeout=0.05, reconnect=True, open=open)
    frames = iter(source)
    assert numbers(frames, 1) == [1]
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(numbers(frames, 1)))
    thread.start()
    eventually(lambda: source.health.state == "retrying", "the loss")
    time.sleep(0.1)  # five times the longest pause
    assert len(opened) == 1
    back.set()
    thread.join(DEADLINE)
    assert (found, len(opened), captures[0].released) == ([2], 2, 1)
    source.close()


def test_closing_while_it_hangs() -> None:
    """Closing ends a wait for a driver that hangs, and a wait to open it again."""
    for reconnect in (False, True):
        back = threading.Event()
        source = Camera(0, timeout=DEADLINE, reconnect=reconnect, open=playing(FakeCapture([back])))
        frames = iter(source)
        threading.Timer(0.05, source.close).start()
        assert next(frames, None) is None
        assert source.health.state == "closed"
        back.set()


def test_driver_that_raises_shows_no_password() -> None:
    """What a driver raises becomes one sentence, with neither password nor query of the URL."""
    failing = FakeCapture([1, RuntimeError(f"lost {URL} at last")])
    source = Camera(URL, open=playing(failing))
    frames = iter(source)
    assert next(frames).name.startswith("rtsp://10.0.0.7:554/line#")
    with pytest.raises(CameraError) as caught:
        next(frames)
    assert str(caught.value) == (
        "rtsp://10.0.0.7:554/line gives no more frames (lost rtsp://10.0.0.7:554/line at last); "
        "check the camera"
    )
    assert "cr#et" not in repr(source.health)


def test_properties(caplog: pytest.LogCaptureFixture) -> None:
    """Properties are set after opening; one the camera does not take is said and goes on."""
    capture = FakeCapture([1])
    wanted = {cv2.CAP_PROP_FRAME_WIDTH: 1920.0, cv2.CAP_PROP_GAIN: 3.0}
    next(iter(Camera(0, properties=wanted, open=playing(capture))))
    assert capture.set_to == wanted
    (record,) = caplog.records
    assert f"property {cv2.CAP_PROP_GAIN} = 3" in record.getMessage()


def test_grey_frames_stay_grey() -> None:
    """A camera that gives one channel is passed on as it is."""

    class Grey(FakeCapture):
        def read(self) -> tuple[bool, Any]:
            return True, np.full((2, 3), 7, np.uint8)

    assert next(iter(Camera(0, open=playing(Grey([]))))).image.shape == (2, 3)


def test_options_that_cannot_work() -> None:
    """Times that cannot be are refused by name."""
    with pytest.raises(ParameterError, match="timeout is 0"):
        Camera(0, timeout=0)
    with pytest.raises(ParameterError, match="open_timeout is -1"):
        Camera(0, open_timeout=-1)
