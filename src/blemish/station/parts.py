"""What runs beside the inspections (sources, deliveries, drift, retention), and its health."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from blemish.errors import BlemishError

log = logging.getLogger("blemish.station")


@dataclass(frozen=True)
class PartHealth:
    """How a source, a sink or another part of the station is doing.

    `state` is `running`, `retrying`, `failed` or `stopped`; `counts` are its own.
    """

    kind: str  # source, sink, drift, retention, bundles
    name: str
    state: str
    last_error: str | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether nobody need look."""
        return self.state == "running"


class StationPart(Protocol):
    """Something that runs beside the inspections: a source, the deliveries, drift, retention."""

    def start(self) -> None:
        """Begin, in threads of its own."""

    def stop(self) -> None:
        """End soon, with nothing acknowledged lost; joins the threads."""

    def health(self) -> list[PartHealth]:
        """How it is doing: one entry each of what it runs."""


class Every:
    """A part that does one thing again and again, `seconds` apart; an error is tried again."""

    def __init__(self, name: str, seconds: float, action: Callable[[], Any]) -> None:
        self.name, self.seconds, self.action = name, seconds, action
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_error: str | None = None
        self._runs = 0

    def start(self) -> None:
        """Begin after the first pause."""
        self._thread = threading.Thread(target=self._run, name=f"blemish-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after what is being done."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def health(self) -> list[PartHealth]:
        """Whether the last time went well."""
        running = self._thread is not None and self._thread.is_alive()
        state = "stopped" if not running else "retrying" if self._last_error else "running"
        return [PartHealth(self.name, self.name, state, self._last_error, {"runs": self._runs})]

    def _run(self) -> None:
        while not self._stopping.wait(self.seconds):
            try:
                self.action()
                self._last_error = None
            except BlemishError as error:
                self._last_error = str(error)
                log.warning("%s: %s", self.name, error)
            except Exception as error:
                self._last_error = f"{type(error).__name__}: {error}"
                log.exception("%s failed; it is tried again", self.name)
            self._runs += 1
