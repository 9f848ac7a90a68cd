"""Pauses between tries that grow, so that what has broken down is not hammered."""

from __future__ import annotations

import random

FIRST, LONGEST = 0.5, 60.0  # s


def pause_after(failures: int, *, first: float = FIRST, longest: float = LONGEST) -> float:
    """Seconds until the next try after `failures` in a row: doubled each time, up to `longest`.

    Between a half and the whole of that by chance: many stations must not come back at once.
    """
    whole = min(longest, first * 2.0 ** min(max(failures - 1, 0), 60))
    return whole * random.uniform(0.5, 1.0)
