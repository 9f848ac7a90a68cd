"""A thread that takes one sink's results out of the outbox, oldest first, until each is there."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from blemish.errors import BlemishError
from blemish.station.inspecting import Part
from blemish.station.parts import PartHealth
from blemish.station.pauses import pause_after
from blemish.station.sinks import outbox
from blemish.station.sinks.outbox import Delivery
from blemish.station.sinks.sink import NotTakenError, Sink, SinkDownError
from blemish.station.store import Database, Judged, now

log = logging.getLogger("blemish.station")

BATCH = 32  # results that are taken out of the database at once
SETTLE = 1.0  # s at most between a result's sending and the note that it was sent
IDLE = 2.0  # s between two looks while nothing comes: somebody may have sent a dead letter again
COUNT = 5.0  # s between two counts of what waits
LEAVE = 30.0  # s that a result may take at the end
LONGEST = 3600.0  # s that a sink may ask to be left alone


class Delivering:
    """Delivers a station's results to one sink: each at least once, in the order of recording.

    A result that the sink does not take is tried `sink.tries` times, then it is a dead letter and
    the next one's turn. A sink that is not there is waited for, however long that takes.
    """

    def __init__(self, database: Database, station: str, sink: Sink) -> None:
        self.database, self.station, self.sink = database, station, sink
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._sent: list[str] = []  # that are not noted as sent yet
        self._failures = 0
        self._last_error: str | None = None
        self._counts = {"sent": 0, "failed": 0, "waiting": 0, "dead": 0}
        self._settled_at = self._counted_at = float("-inf")

    # As a part of the station ------------------------------------------------------------

    def start(self) -> None:
        """Begin with what was left over."""
        self.sink.open()
        name = f"blemish-sink-{self.sink.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the result being sent; what is left waits in the database."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(LEAVE)
        self.sink.close()

    def health(self) -> list[PartHealth]:
        """Whether results arrive; `waiting` and `dead` are a few seconds old."""
        trouble = self._last_error or self.sink.trouble
        running = self._thread is not None and self._thread.is_alive()
        state = "stopped" if not running else "retrying" if trouble else "running"
        return [PartHealth("sink", self.sink.name, state, trouble, dict(self._counts))]

    # As a listener to the inspections ----------------------------------------------------

    def arrived(self, part: Part, key: str) -> None:
        """Nothing to send yet."""

    def recorded(self, judged: Judged) -> None:
        """Look at once."""
        self._wake.set()

    def lost(self, part: Part, key: str, error: Exception) -> None:
        """Nothing to send."""

    # The thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause = self._round()
            except Exception as error:
                pause = self._broken(error)
            if pause is not None:
                self._stopping.wait(pause)
            elif self._wake.wait(IDLE):
                self._wake.clear()
        try:
            self._settle()
        except Exception as error:  # they are sent once more
            log.warning("%s: sent results could not be noted: %s", self.sink.name, error)

    def _round(self) -> float | None:
        """Send what is due; the seconds to wait before the next try, None when all is sent."""
        while not self._stopping.is_set():
            self._settle()
            self._count()
            due = outbox.waiting(self.database, self.station, self.sink.name, BATCH)
            if not due:
                self._last_error = None
                return None
            for delivery in due:
                pause = self._deliver(delivery)
                if pause is not None or self._stopping.is_set():
                    return pause
        return None

    def _deliver(self, delivery: Delivery) -> float | None:
        """Send one; the seconds to wait when it, and so those behind it, must wait."""
        early = (delivery.next_try - now()).total_seconds()
        if 0 < early <= LONGEST:  # beyond that the clock was set back
            self._last_error = self._last_error or delivery.last_error
            return early
        try:
            self.sink.send(delivery.judged, self._stopping)
        except SinkDownError as error:
            if self._stopping.is_set():
                return None
            self._settle()
            if self._last_error != str(error):
                outbox.note(self.database, delivery, str(error))
            return self._broken(error)
        except NotTakenError as error:
            self._settle()
            return self._refused(delivery, error)
        self._sent.append(delivery.id)
        self._counts["sent"] += 1
        self._failures, self._last_error = 0, None
        if time.monotonic() - self._settled_at > SETTLE:
            self._settle()
        return None

    def _refused(self, delivery: Delivery, error: NotTakenError) -> float | None:
        self._counts["failed"] += 1
        dead = error.final or delivery.tries + 1 >= self.sink.tries
        pause = min(max(pause_after(delivery.tries + 1), error.retry_after), LONGEST)
        until = None if dead else now() + timedelta(seconds=pause)
        outbox.put_off(self.database, delivery, str(error), until)
        self._counted_at = float("-inf")
        if dead:
            log.warning(
                "%s: %s is a dead letter: %s", self.sink.name, delivery.judged.row.id, error
            )
            return None
        self._last_error = str(error)
        return pause

    def _broken(self, error: Exception) -> float:
        """The sink, the database or this code does not work: the same is tried again."""
        self._failures += 1
        known = isinstance(error, BlemishError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        if message != self._last_error:
            log.warning("%s: %s", self.sink.name, message, exc_info=None if known else error)
        self._last_error = message
        return pause_after(self._failures)

    def _settle(self) -> None:
        if self._sent:
            outbox.settle(self.database, self._sent)
            self._sent.clear()
        self._settled_at = time.monotonic()

    def _count(self) -> None:
        if time.monotonic() - self._counted_at >= COUNT:
            self._counts |= outbox.counts(self.database, self.station, self.sink.name)
            self._counted_at = time.monotonic()
