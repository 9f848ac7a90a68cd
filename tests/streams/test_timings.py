"""Timings: percentiles within a percent, in memory that does not grow."""

from __future__ import annotations

import threading

import numpy as np

from blemish.streams import Timings


def test_percentiles() -> None:
    """p50 and p95 are within 1 % of the sorted durations', count and maximum exact."""
    rng = np.random.default_rng(0)
    values = rng.lognormal(3.0, 1.5, 2001)
    timings = Timings()
    for value in values:
        timings.add({"inspect": float(value)})
    found = timings.summary()["inspect"]
    assert (found.count, found.max) == (2001, values.max())
    for share, mine in ((0.5, found.p50), (0.95, found.p95)):
        true = np.quantile(values, share, method="inverted_cdf")
        assert abs(mine / true - 1) < 0.0101


def test_one_and_none() -> None:
    """One duration is all its percentiles; nothing has no stages; zero is a duration."""
    timings = Timings()
    assert timings.summary() == {}
    timings.add({"wait": 0.0, "read": 12.5})
    found = timings.summary()
    assert list(found) == ["wait", "read"]
    assert (found["wait"].p50, found["wait"].max) == (0.0, 0.0)
    assert abs(found["read"].p95 - 12.5) < 0.13
    assert found["read"].p95 <= found["read"].max == 12.5


def test_memory_is_bounded() -> None:
    """From a microsecond to a day, a stage has no more than 1,300 bins."""
    timings = Timings()
    for value in np.geomspace(1e-3, 86_400_000, 20_000):
        timings.add({"wait": float(value)})
    assert len(timings._stages["wait"].bins) < 1300


def test_from_several_threads() -> None:
    """No duration is lost when threads add at once."""
    timings = Timings()

    def add() -> None:
        for _ in range(2000):
            timings.add({"inspect": 1.0})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timings.summary()["inspect"].count == 8000
