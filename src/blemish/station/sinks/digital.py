"""A level for a PLC: fail, unless the newest part has passed in time.

The level is written by a thread of its own, because a device or a pipe may hang.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from blemish.station.inspecting import Part
from blemish.station.parts import PartHealth
from blemish.station.settings import DigitalSink
from blemish.station.store import Judged

log = logging.getLogger("blemish.station")

AGAIN = 0.05  # s between two tries to write
HANGING = 1.0  # s after which a write that does not return is trouble
LEAVE = 2.0  # s that the last level may take at the end


@dataclass
class _Newest:
    """The part that the level belongs to."""

    key: str
    deadline: float  # by time.monotonic
    failed: bool = False  # fail was written since it came: each part's pass has an edge
    passed: bool = False


class DigitalOutput:
    """Writes `pass_value` while the newest part has passed in time, else `fail_value`.

    `counts`: `passed` and `late` (passed, after the deadline), `overtaken` (passed, when another
    part had come already), `written`.
    """

    def __init__(self, settings: DigitalSink, path: Path) -> None:
        self.settings, self.path = settings, path
        self._changed = threading.Condition()
        self._newest: _Newest | None = None
        self._until: float | None = None  # when the hold of a pass ends
        self._ended, self._end_by = False, 0.0
        self._thread: threading.Thread | None = None
        self._level = _Level(path)
        self._counts = {"passed": 0, "late": 0, "overtaken": 0, "written": 0}
        self._last_error: str | None = None
        self._writing_since: float | None = None
        self._shown: bool | None = None  # what was written last; None: not known

    # As a part of the station ------------------------------------------------------------

    def start(self) -> None:
        """Write fail: what a station that was killed has left there may be a pass."""
        name = f"blemish-sink-{self.settings.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(self._tried, LEAVE)

    def stop(self) -> None:
        """Write fail, and end."""
        with self._changed:
            self._ended, self._end_by, self._newest = True, time.monotonic() + LEAVE / 2, None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(LEAVE)

    def health(self) -> list[PartHealth]:
        """Whether the level can be written."""
        trouble, since = self._last_error, self._writing_since
        if since is not None and time.monotonic() - since > HANGING:
            trouble = (
                f"{self.path}: the write has not returned for {time.monotonic() - since:.0f} s; "
                "look at the device"
            )
        running = self._thread is not None and self._thread.is_alive()
        state = "stopped" if not running else "retrying" if trouble else "running"
        return [PartHealth("sink", self.settings.name, state, trouble, dict(self._counts))]

    # As a listener to the inspections ----------------------------------------------------

    def arrived(self, part: Part, key: str) -> None:
        """Fail, until this part has passed."""
        if part.inspector != self.settings.inspector:
            return
        with self._changed:
            if not self._ended:
                self._newest = _Newest(key, part.arrived + self.settings.deadline_ms / 1e3)
                self._until = None
                self._changed.notify_all()

    def recorded(self, judged: Judged) -> None:
        """Pass, if this is the newest part; whether it is in time, the writing thread sees."""
        if judged.row.verdict != "pass" or judged.row.inspector != self.settings.inspector:
            return
        with self._changed:
            newest = self._newest
            if newest is None or newest.key != judged.row.id:
                self._counts["overtaken"] += 1
            else:
                newest.passed = True
                self._changed.notify_all()

    def lost(self, part: Part, key: str, error: Exception) -> None:
        """It stays at fail."""

    # The thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due, self._patience())
                if not self._is_due():
                    continue
                wanted, newest = self._wanted(), self._newest
                self._shown, self._writing_since = None, time.monotonic()
            error = self._level.write(self._value(wanted))
            with self._changed:
                self._writing_since = None
                self._note(error, wanted, newest)
                self._changed.notify_all()
                if self._ended and (self._shown is False or time.monotonic() > self._end_by):
                    break
            if error is not None:
                time.sleep(AGAIN)
        self._level.close()

    def _note(self, error: str | None, wanted: bool, newest: _Newest | None) -> None:
        if error is not None and error != self._last_error:
            log.warning("%s: %s", self.settings.name, error)
        self._last_error = error
        if error is not None:
            return
        self._shown = wanted
        self._counts["written"] += 1
        if newest is None:
            return
        if not wanted:
            newest.failed = True
        elif time.monotonic() > newest.deadline:
            self._too_late(newest)  # the device was slow: the PLC has taken the part for bad
        else:
            self._counts["passed"] += 1
            hold = self.settings.hold_ms / 1e3
            self._until = time.monotonic() + hold if hold else None

    def _tried(self) -> bool:
        return self._shown is not None or self._last_error is not None

    def _is_due(self) -> bool:
        news = self._newest is not None and not self._newest.failed
        return self._ended or news or self._wanted() != self._shown

    def _patience(self) -> float | None:
        """Seconds after which the level changes by itself."""
        if not self._shown or self._until is None:
            return None
        return max(0.0, self._until - time.monotonic())

    def _wanted(self) -> bool:
        """The level that should be there at this moment."""
        newest = self._newest
        if newest is None or not (newest.failed and newest.passed):
            return False
        if self._until is not None:
            return self._shown is not False and time.monotonic() < self._until
        if self._shown:
            return True
        if time.monotonic() > newest.deadline:
            self._too_late(newest)  # it passed in time, but that could not be written in time
        return newest.passed

    def _too_late(self, newest: _Newest) -> None:
        newest.passed = False
        self._counts["late"] += 1

    def _value(self, wanted: bool) -> bytes:
        value = self.settings.pass_value if wanted else self.settings.fail_value
        return value.encode()


class _Level:
    """A file, a GPIO's value or a named pipe, written without waiting where the system lets one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_pipe = False

    def write(self, value: bytes) -> str | None:
        """Write it; returns what went wrong."""
        try:
            descriptor = self._opened()
            if self._is_pipe:
                if os.write(descriptor, value) != len(value):
                    raise OSError(errno.EAGAIN, "it is full")
            else:
                if os.pwrite(descriptor, value, 0) != len(value):
                    raise OSError(errno.EIO, "it took only a part")
                self._shorten(descriptor, len(value))
        except OSError as error:
            self.close()
            return f"{self._path} cannot be written ({_why(error)})"
        if not self._is_pipe:
            self.close()  # so that a file that was replaced is noticed
        return None

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            # A named pipe that nobody reads answers at once with ENXIO instead of waiting.
            flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
            self._is_pipe = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        return self._descriptor

    def _shorten(self, descriptor: int, size: int) -> None:
        # The kernel's GPIO files say that they are regular and have 4096 bytes, and stay so.
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EPERM, errno.EACCES}:
                raise


def _why(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "nobody reads this pipe; start what reads it"
    if error.errno == errno.EPIPE:
        return "whoever read this pipe has gone; start it again"
    if error.errno == errno.EAGAIN:
        return "nobody empties this pipe; look at what reads it"
    return f"{error.strerror or error}; check the path, its permissions and the device"
