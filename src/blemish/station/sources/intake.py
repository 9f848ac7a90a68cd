"""What all sources share: one part after another is recorded, however long that takes."""

from __future__ import annotations

import hashlib
import logging
import threading
from abc import ABC, abstractmethod

from blemish.errors import BlemishError
from blemish.station.errors import ReusedKeyError, StationError
from blemish.station.inspecting import Inspecting, Part
from blemish.station.parts import PartHealth
from blemish.station.pauses import pause_after

log = logging.getLogger("blemish.station")

LONGEST = 10.0  # s between two tries to record a part
LEAVE = 30.0  # s that a part may take at the end; a network share may hang for ever
LOOK = 0.5  # s between two looks whether the inspector has come


class Intake(ABC):
    """A thread that takes parts from somewhere and has them inspected and recorded, in order.

    Nothing is skipped: while the database is away, or the inspector is, the same part is tried
    again until it is on record or the source is stopped. The next part is asked for only then.

    `counts`: `recorded`; `repeated`, which were on record already; `errors`, recorded without a
    verdict; `retries`.
    """

    def __init__(self, name: str, inspector: str, inspecting: Inspecting) -> None:
        self.name, self.inspector, self.inspecting = name, inspector, inspecting
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._counts = {"recorded": 0, "repeated": 0, "errors": 0, "retries": 0}
        self._trouble: str | None = None

    @abstractmethod
    def _run(self) -> None:
        """Take parts until `_stopping` is set; an error is told, and it is called again."""

    def _begin(self) -> None:  # noqa: B027 - most sources have nothing to begin
        """What must not wait for the inspector."""

    def _leave(self) -> None:  # noqa: B027 - and some nothing to leave
        """Make `_run` return soon."""

    def _source_trouble(self) -> str | None:
        """What is wrong with where the parts come from."""
        return None

    def _source_counts(self) -> dict[str, int]:
        """More to count."""
        return {}

    def start(self) -> None:
        """Begin, in a thread."""
        self._begin()
        self._thread = threading.Thread(
            target=self._guarded, name=f"blemish-source-{self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End after the part being recorded; one that cannot be recorded now comes again."""
        self._stopping.set()
        self._leave()
        if self._thread is not None:
            self._thread.join(LEAVE)

    def health(self) -> list[PartHealth]:
        """Whether parts come, and are recorded."""
        trouble = self._trouble or self._source_trouble()
        running = self._thread is not None and self._thread.is_alive()
        state = "stopped" if not running else "retrying" if trouble else "running"
        return [
            PartHealth("source", self.name, state, trouble, self._counts | self._source_counts())
        ]

    def _guarded(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                self._wait_for_inspector()
                self._run()
                failures = 0
            except Exception as error:
                failures += 1
                self._tell(error)
            self._stopping.wait(pause_after(failures, longest=LONGEST))

    def _wait_for_inspector(self) -> None:
        while not self._stopping.is_set():
            try:
                self.inspecting.shelf.get(self.inspector)
            except StationError as error:
                self._tell(error)
                self._stopping.wait(LOOK)
            else:
                self._trouble = None
                return

    def _take(self, part: Part) -> bool:
        """Have a part recorded; False when the source was stopped before that came about."""
        failures = 0
        while not self._stopping.is_set():
            try:
                judged, created = self.inspecting.inspect(part)
            except ReusedKeyError as error:
                # What identifies the part is on record; only what was said of it has changed.
                log.warning("%s: %s was recorded before: %s", self.name, part.image, error)
                self._counts["repeated"] += 1
            except Exception as error:
                failures += 1
                self._counts["retries"] += 1
                self._tell(error)
                self._stopping.wait(pause_after(failures, longest=LONGEST))
                continue
            else:
                self._counts["recorded" if created else "repeated"] += 1
                self._counts["errors"] += created and judged.row.verdict == "error"
            self._trouble = None
            return True
        return False

    def _tell(self, error: Exception) -> None:
        known = isinstance(error, BlemishError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        if message != self._trouble:
            log.warning("%s: %s", self.name, message, exc_info=None if known else error)
        self._trouble = message


def request_key(*told: object) -> str:
    """The key under which a part is recorded once, of what identifies it."""
    return hashlib.sha256("\0".join(map(ascii, told)).encode()).hexdigest()


def as_text(name: str) -> str:
    """A file's name as text that every database takes; bytes that are no text are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
