"""What the tests of streams share: pictures on disk, and waiting with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

DEADLINE = 100.0  # s: processes are frozen now and then while something else is measured


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds, or fail."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, f"did not happen in time: {what}"
        time.sleep(0.005)


def picture(value: int, size: int = 8) -> np.ndarray:
    """An RGB image [size, size, 3] told apart by its value."""
    image = np.full((size, size, 3), 40, np.uint8)
    image[..., 0] = value
    return image


def save(path: Path, value: int, size: int = 8) -> Path:
    """That image written to a file."""
    path.write_bytes(encoded(value, size))
    return path


def encoded(value: int, size: int = 8) -> bytes:
    """That image as PNG."""
    done, data = cv2.imencode(".png", picture(value, size)[..., ::-1])
    assert done
    return data.tobytes()


def value_of(image: np.ndarray) -> int:
    """Which picture this is."""
    return int(image[0, 0, 0])


def write_video(path: Path, frames: list[np.ndarray], codec: str = "MJPG") -> Path:
    """A real video of RGB frames."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def threads() -> set[threading.Thread]:
    """The threads of streams that run now."""
    return {t for t in threading.enumerate() if t.name.startswith("blemish-")}


def counted(count: int) -> tuple[Iterator[np.ndarray], list[int]]:
    """`count` pictures told apart by value, and the list of those asked for so far."""
    asked: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for value in range(count):
            asked.append(value)
            yield picture(value)

    return images(), asked


class Gate:
    """An inspection that waits, for each picture, until it is let through."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self._open: dict[int, threading.Event] = {}
        self._lock = threading.Lock()

    def _event(self, value: int) -> threading.Event:
        with self._lock:
            return self._open.setdefault(value, threading.Event())

    def let(self, *values: int) -> None:
        for value in values:
            self._event(value).set()

    def __call__(self, image: np.ndarray) -> int:
        value = value_of(image)
        self.begun.append(value)
        assert self._event(value).wait(DEADLINE)
        return value
