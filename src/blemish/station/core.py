"""The station: what belongs together while it runs, started in order and stopped in reverse."""

from __future__ import annotations

from ipaddress import ip_address

from blemish.errors import ParameterError
from blemish.station.drift import DriftWatch
from blemish.station.figures import Figures
from blemish.station.inspecting import Inspecting
from blemish.station.keeping import Keeping
from blemish.station.parts import Every, PartHealth, StationPart
from blemish.station.people import People
from blemish.station.review import Reviewing
from blemish.station.settings import Settings
from blemish.station.shelf import Shelf
from blemish.station.sinks import Delivering, Sink, make_sinks
from blemish.station.sources import Intake, make_sources
from blemish.station.store import Database, PictureStore

LOOK = 2.0  # s between two looks at the folder of bundles


class Station:
    """One station: its settings, store, inspectors, and the parts that run beside them."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self.settings = settings
        self.database = database or Database(settings.database)
        self.database.migrate()
        self.people = People(self.database, settings.session_hours)
        self.pictures = PictureStore(settings.folder)
        self.shelf = Shelf(
            settings.bundles, device=settings.device, max_pixels=settings.limits.max_pixels
        )
        self.shelf.refresh()
        self.inspecting = Inspecting(
            self.shelf,
            self.database,
            self.pictures,
            station=settings.name,
            limits=settings.limits,
        )
        self.figures = Figures(self.inspecting, self.shelf, self.health)
        self.inspecting.listeners.append(self.figures)
        self.reviewing = Reviewing(self)
        # In this order they start; in the other one they stop: no part comes without its sinks.
        self.parts: list[StationPart] = [
            Every("bundles", LOOK, self.shelf.refresh),
            Keeping(self.database, self.pictures, settings.retention),
            DriftWatch(self.database, self.shelf, settings.drift, settings.name).part(),
            *make_sinks(settings, self.database, self.inspecting),
            *make_sources(settings, self.inspecting),
        ]

    def add_source(self, source: Intake) -> None:
        """Take parts from a source of one's own too; before the station starts."""
        self._check_name("source", source.name)
        self.parts.append(source)

    def add_sink(self, sink: Sink) -> None:
        """Send results to a sink of one's own too, out of the outbox; before the station starts."""
        self._check_name("sink", sink.name)
        delivering = Delivering(self.database, self.settings.name, sink)
        others = self.inspecting.sinks
        self.inspecting.sinks = lambda inspector: [*others(inspector), sink.name]
        self.inspecting.listeners.append(delivering)
        sources = [number for number, part in enumerate(self.parts) if isinstance(part, Intake)]
        self.parts.insert(sources[0] if sources else len(self.parts), delivering)

    def _check_name(self, kind: str, name: str) -> None:
        if any((entry.kind, entry.name) == (kind, name) for entry in self.health()):
            raise ParameterError(f"a {kind} is called '{name}' already; give it a name of its own")

    @property
    def anonymous(self) -> bool:
        """Whether somebody without a token may look: only at this machine."""
        return self.settings.anonymous and is_loopback(self.settings.host)

    def start(self) -> None:
        """Start every part."""
        for part in self.parts:
            part.start()

    def stop(self) -> None:
        """Stop every part, sources first, then finish what was begun."""
        for part in reversed(self.parts):
            part.stop()
        self.inspecting.close()
        self.database.close()

    def health(self) -> list[PartHealth]:
        """How every part is doing."""
        return [entry for part in self.parts for entry in part.health()]

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
