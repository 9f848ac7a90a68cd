"""Inspections for tests of the store, with as little said of each as possible."""

from __future__ import annotations

import hashlib
from typing import Any

from blemish.station.store import Draft
from blemish.station.store.inspections import Live, Thresholds

LIMITS = Thresholds(threshold=1.0, review_threshold=0.8, promise="average", false_alarm_rate=0.01)


def live(inspector: str = "board", version: int = 1) -> Live:
    """A version that judges parts."""
    digest = hashlib.sha256(f"{inspector}/{version}".encode()).hexdigest()
    return Live(inspector, version, digest, "2026-01-01T00:00:00Z", LIMITS)


def draft(
    inspector: str = "board", version: int = 1, *, verdict: str = "pass", **values: Any
) -> Draft:
    """An inspection of a made-up image."""
    given: dict[str, Any] = {
        "station": "line-1", "source": "http", "image_sha256": "ab" * 32, "latency_ms": 80.0,
        "score": {"pass": 0.5, "review": 0.9, "fail": 1.5}.get(verdict),
    }  # fmt: skip
    return Draft(live=live(inspector, version), verdict=verdict, **given | values)
