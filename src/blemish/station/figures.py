"""Figures for Prometheus: results, latency, what waits, and how the station's parts are doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from blemish.station.inspecting import Inspecting, Part
from blemish.station.parts import PartHealth
from blemish.station.shelf import Shelf
from blemish.station.store import Judged

_LATENCIES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)  # s


class Figures:
    """Listens to the inspections; everything else is looked at when it is asked for."""

    def __init__(
        self, inspecting: Inspecting, shelf: Shelf, health: Callable[[], list[PartHealth]]
    ) -> None:
        self.registry = CollectorRegistry()
        self._inspections = Counter(
            "blemish_inspections", "Recorded inspections.", ["inspector", "verdict", "source"],
            registry=self.registry,
        )  # fmt: skip
        self._latency = Histogram(
            "blemish_inspection_seconds", "From an image's bytes to its verdict.", ["inspector"],
            buckets=_LATENCIES, registry=self.registry,
        )  # fmt: skip
        self._lost = Counter(
            "blemish_unrecorded", "Parts whose sender was told to send them again.", ["source"],
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Now(inspecting, shelf, health))

    def arrived(self, part: Part, key: str) -> None:
        """Nothing to count yet."""

    def recorded(self, judged: Judged) -> None:
        """Count a result."""
        row = judged.row
        self._inspections.labels(row.inspector, row.verdict, row.source).inc()
        self._latency.labels(row.inspector).observe(row.latency_ms / 1e3)

    def lost(self, part: Part, key: str, error: Exception) -> None:
        """Count what was not recorded."""
        self._lost.labels(part.source).inc()


class _Now(Collector):
    def __init__(
        self, inspecting: Inspecting, shelf: Shelf, health: Callable[[], list[PartHealth]]
    ) -> None:
        self.inspecting, self.shelf, self.health = inspecting, shelf, health

    def describe(self) -> Iterator[Metric]:
        """Nothing is registered by name."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        waiting = GaugeMetricFamily("blemish_waiting", "Parts inspected now or waiting for it.")
        waiting.add_metric([], self.inspecting.waiting)
        yield waiting
        version = GaugeMetricFamily(
            "blemish_inspector_version", "The live version.", labels=["inspector"]
        )
        for held in self.shelf.held:
            version.add_metric([held.name], held.live.version)
        yield version
        well = GaugeMetricFamily(
            "blemish_part_well", "1 where a part of the station is well.", labels=["kind", "name"]
        )
        counts = GaugeMetricFamily(
            "blemish_part_count", "Counts of a part's own.", labels=["kind", "name", "count"]
        )
        for entry in self.health():
            well.add_metric([entry.kind, entry.name], float(entry.well))
            for name, value in entry.counts.items():
                counts.add_metric([entry.kind, entry.name, name], value)
        yield well
        yield counts
