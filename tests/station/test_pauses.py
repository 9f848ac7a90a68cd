"""Pauses between tries."""

from __future__ import annotations

import pytest

from blemish.station.pauses import pause_after


@pytest.mark.parametrize(
    ("failures", "whole"), [(0, 0.5), (1, 0.5), (2, 1), (3, 2), (7, 32), (8, 60), (10**6, 60)]
)
def test_pauses_grow_to_a_minute_and_differ(failures: int, whole: float) -> None:
    """Doubled each time, never beyond a minute, and spread so that not all come back at once."""
    pauses = [pause_after(failures) for _ in range(200)]
    assert whole / 2 <= min(pauses) < 0.6 * whole
    assert 0.9 * whole < max(pauses) <= whole
