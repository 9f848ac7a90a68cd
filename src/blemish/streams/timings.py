"""How long each stage takes, over any number of parts, in memory that does not grow."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

_STEP = math.log(1.02)  # neighbouring bins differ by 2 %, so a percentile is off by at most 1 %
_LEAST = 1e-3  # ms: all that is shorter falls into one bin


@dataclass(frozen=True)
class StageSummary:
    """One stage, in milliseconds; percentiles within 1 %."""

    count: int
    p50: float
    p95: float
    max: float


@dataclass
class _Stage:
    count: int = 0
    longest: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, milliseconds: float) -> None:
        self.count += 1
        self.longest = max(self.longest, milliseconds)
        self.bins[round(math.log(max(milliseconds, _LEAST) / _LEAST) / _STEP)] += 1

    def percentile(self, share: float) -> float:
        """The smallest duration that at least this share of all do not exceed."""
        wanted = math.ceil(share * self.count)
        seen = 0
        for index in sorted(self.bins):
            seen += self.bins[index]
            if seen >= wanted:
                return min(_LEAST * math.exp(index * _STEP), self.longest)
        return 0.0


class Timings:
    """Durations by stage: `add` from any thread, `summary` at any moment.

    Durations are counted in bins of a logarithmic scale, some thousand a stage at the most.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def add(self, milliseconds: Mapping[str, float]) -> None:
        """Count one part's durations by stage, in milliseconds."""
        with self._lock:
            for stage, value in milliseconds.items():
                self._stages.setdefault(stage, _Stage()).add(value)

    def summary(self) -> dict[str, StageSummary]:
        """Each stage in the order of its first appearance."""
        with self._lock:
            return {
                name: StageSummary(
                    stage.count, stage.percentile(0.5), stage.percentile(0.95), stage.longest
                )
                for name, stage in self._stages.items()
            }
