"""A camera through OpenCV, by index or URL, with a clear error when it is gone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

from blemish.errors import CameraError, ParameterError
from blemish.streams.capture import Capture, Opener, opencv, to_rgb
from blemish.streams.source import BaseSource, Frame, log

_CLOSED_WITHIN = 0.1  # s: how often a wait for the driver looks whether the source was closed
_BETWEEN_READS = 0.01  # s between two reads that gave nothing
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # s between two attempts to open a camera that is gone


class Camera(BaseSource):
    """Frames of a camera, RGB uint8 [H, W, 3], each read when it is asked for.

    `where` is OpenCV's index or a URL (RTSP, HTTP). A camera that does not open within
    `open_timeout` seconds, or gives no frame for `timeout` seconds, raises CameraError; with
    `reconnect` it is opened again instead, after half a second and then ever less often, up to
    every 30 seconds. `properties` are set after opening, by OpenCV's numbers:
    `{cv2.CAP_PROP_FRAME_WIDTH: 1920}`.

    `health.counts`: `reconnects`.
    """

    def __init__(
        self,
        where: int | str,
        *,
        timeout: float = 5.0,
        open_timeout: float = 30.0,
        reconnect: bool = False,
        properties: Mapping[int, float] | None = None,
        open: Opener = opencv,
    ) -> None:
        for name, value in (("timeout", timeout), ("open_timeout", open_timeout)):
            if not 0 < value < float("inf"):
                raise ParameterError(f"{name} is {value}; give seconds, more than 0")
        self.where = int(where) if isinstance(where, str) and where.isdecimal() else where
        super().__init__(_name(self.where))
        self.timeout = timeout
        self.open_timeout = open_timeout
        self.reconnect = reconnect
        self.properties = dict(properties or {})
        self.open = open

    def _frames(self) -> Generator[Frame, None, None]:
        pause, lost = _FIRST_PAUSE, False
        while not self._closing.is_set():
            driver = _Driver(self._opened, self._closing)
            try:
                for frame in self._connected(driver):
                    if lost:
                        self._found()
                    pause, lost = _FIRST_PAUSE, False
                    yield frame
            except _Closed:
                return
            except CameraError as error:
                if not self.reconnect:
                    raise
                if not lost:
                    log.warning("%s; trying again", error)
                lost = True
                self._note(state="retrying", last_error=str(error))
            finally:
                driver.leave()
            # A call that never returned still holds the camera, so that another would fail, too.
            while not self._closing.wait(pause) and driver.is_busy:
                pass
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _found(self) -> None:
        log.warning("%s gives frames again", self.name)
        self._note(state="running")
        self._count(reconnects=self.health.counts.get("reconnects", 0) + 1)

    def _connected(self, driver: _Driver) -> Iterator[Frame]:
        """Frames until the camera gives none for too long, which raises CameraError."""
        if not self._answer(driver, self.open_timeout, self.open_timeout, "does not open"):
            raise CameraError(
                f"{self.name} cannot be opened; check that it is connected and powered, that no "
                "other program uses it, and its index or URL"
            )
        until = time.monotonic() + self.timeout
        while True:
            started = time.perf_counter()
            driver.ask_for_frame()
            left = max(until - time.monotonic(), 0)
            there, image = self._answer(driver, left, self.timeout, "gives no more frames")
            if there:
                rgb = to_rgb(image)
                yield self._frame(rgb, (time.perf_counter() - started) * 1e3)
                until = time.monotonic() + self.timeout
            elif time.monotonic() >= until:
                raise self._silent(self.timeout, "gives no more frames")
            else:
                self._closing.wait(_BETWEEN_READS)

    def _answer(self, driver: _Driver, left: float, limit: float, what: str) -> Any:
        try:
            return driver.answer(left)
        except TimeoutError:
            raise self._silent(limit, what) from None
        except _Failed as error:
            # A message may hold the URL, and the URL a password.
            why = str(error.__cause__).replace(str(self.where), self.name)
            raise CameraError(f"{self.name} {what} ({why}); check the camera") from None

    def _silent(self, seconds: float, what: str) -> CameraError:
        return CameraError(
            f"{self.name} {what} (waited {seconds:g} s); check its cable, power and network"
        )

    def _opened(self) -> Capture:
        capture = self.open(self.where)
        for number, value in self.properties.items():
            if capture.isOpened() and not capture.set(number, value):
                log.warning("%s does not take the property %s = %g", self.name, number, value)
        return capture

    def _frame(self, image: Any, spent: float) -> Frame:
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        return Frame(f"{self.name}#{stamp}", image, now, read_ms=spent)


class _Driver:
    """A thread for the calls into OpenCV, each of which may block for as long as it likes."""

    def __init__(self, opener: Callable[[], Capture], closing: threading.Event) -> None:
        self._closing = closing
        self._wanted: SimpleQueue[bool] = SimpleQueue()  # False: no more
        self._answers: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(opener,), name="blemish-camera", daemon=True
        )
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a call has not returned yet, or the camera is not released yet."""
        return self._thread.is_alive()

    def ask_for_frame(self) -> None:
        """Let the thread read one frame, which `answer` then waits for."""
        self._wanted.put(True)

    def answer(self, timeout: float) -> Any:
        """Whether the camera is open, at first; then what `read` returned.

        Raises TimeoutError, after which the driver can only be left; _Failed; _Closed.
        """
        until = time.monotonic() + timeout
        while not self._closing.is_set():
            left = until - time.monotonic()
            try:
                answer, error = self._answers.get(timeout=max(min(left, _CLOSED_WITHIN), 0))
            except Empty:
                if left <= 0:
                    raise TimeoutError from None
                continue
            if error is not None:
                raise _Failed from error
            return answer
        raise _Closed

    def leave(self) -> None:
        """Release the camera as soon as the call in progress, if any, returns."""
        self._wanted.put(False)

    def _run(self, opener: Callable[[], Capture]) -> None:
        capture: Capture | None = None
        try:
            capture = opener()
            self._answers.put((capture.isOpened(), None))
            while self._wanted.get():
                self._answers.put((capture.read(), None))
        except Exception as error:  # whatever OpenCV or a maker's library raises
            self._answers.put((None, error))
        finally:
            if capture is not None:
                capture.release()


class _Closed(Exception):
    """The source was closed while the driver had not answered."""


class _Failed(Exception):
    """A call to the driver raised its cause."""


def _name(where: int | str) -> str:
    """What to call a camera in messages and results: a URL without user, password and query."""
    if isinstance(where, int):
        return f"camera {where}"
    scheme, is_url, rest = where.partition("://")
    # The last @ ends the password, wherever it is: one with # or / in it must not show either.
    return scheme + is_url + re.split("[?#]", rest.rpartition("@")[2])[0] if is_url else where
