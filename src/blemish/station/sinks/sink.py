"""What a sink is: it takes one result at a time, or says whose fault it is that it did not."""

from __future__ import annotations

import threading
from typing import Protocol

from blemish.station.errors import StationError
from blemish.station.store import Judged


class SinkDownError(StationError):
    """The sink cannot be reached now; no result is to blame, so none is given up."""

    code = "sink_down"


class NotTakenError(StationError):
    """The sink was reached and did not take this result; `final`: it never will.

    `retry_after` is how many seconds it asked to be left alone.
    """

    code = "not_taken"

    def __init__(self, message: str, *, final: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.final, self.retry_after = final, retry_after


class Sink(Protocol):
    """Where results go, one after another, from one thread."""

    name: str
    tries: int  # that the sink did not take a result; then it is a dead letter

    @property
    def trouble(self) -> str | None:
        """What is wrong with it even while there is nothing to send."""

    def open(self) -> None:
        """Begin; does not wait for the other side."""

    def send(self, judged: Judged, stopping: threading.Event) -> None:
        """Return once the other side has it for sure, or raise SinkDownError or NotTakenError.

        Soon after `stopping` is set it raises SinkDownError.
        """

    def close(self) -> None:
        """End, also before `open`."""
