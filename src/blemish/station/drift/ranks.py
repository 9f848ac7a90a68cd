"""Two-sample tests by ranks, which hold whatever the values' distribution: no SciPy on the line.

If the window's parts are exchangeable with the reference's, each p-value is at most a with
probability at most a (Mann-Whitney: nearly so, by its normal limit). Held against SciPy in tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EXACT = 4_000_000  # steps of the exact Kolmogorov-Smirnov count; beyond, its limit is exact enough


@dataclass(frozen=True)
class Distance:
    """How far apart two distributions are: `above` where the window's values are larger.

    Each is the largest difference of the distribution functions in that direction, 0 to 1.
    """

    above: float
    below: float
    p_value: float

    @property
    def largest(self) -> float:
        """The Kolmogorov-Smirnov statistic."""
        return max(self.above, self.below)


@dataclass(frozen=True)
class Shift:
    """How often a value of the window is larger than one of the reference (ties: half)."""

    superiority: float
    p_value: float


def kolmogorov_smirnov(window: Floats, reference: Floats) -> Distance:
    """Any change of distribution, two-sided; exact without ties, conservative with them.

    `window` [m] and `reference` [n] are not empty.
    """
    m, n = len(window), len(reference)
    values = np.concatenate([window, reference])
    below_window = np.searchsorted(np.sort(window), values, side="right")
    below_reference = np.searchsorted(np.sort(reference), values, side="right")
    # In whole numbers, so that a distance on the border is on it.
    apart = below_window.astype(np.int64) * n - below_reference.astype(np.int64) * m
    below, above = max(int(apart.max()), 0), max(int(-apart.min()), 0)
    largest = max(below, above)
    return Distance(above / (m * n), below / (m * n), _distance_p_value(largest, m, n))


@lru_cache(maxsize=4096)
def _distance_p_value(distance: int, m: int, n: int) -> float:
    """P(D >= distance / (m n)) by counting the paths that stay within (Hodges 1957)."""
    if distance == 0:
        return 1.0
    if m * n > _EXACT:
        return _kolmogorov(distance / (m * n) * math.sqrt(m * n / (m + n)))
    rows, columns = min(m, n), max(m, n)
    paths = np.zeros(columns + 1)
    paths[: min(columns, -(-distance // rows) - 1) + 1] = 1.0
    scale = 0.0  # the logarithm of what the numbers of paths were divided by
    for row in range(1, rows + 1):
        low = max(0, (row * columns - distance) // rows + 1)
        high = min(columns, -(-(row * columns + distance) // rows) - 1)
        # A path steps up in one of these columns, then goes on to the right.
        paths[low : high + 1] = np.cumsum(paths[low : high + 1])
        paths[:low] = 0.0
        paths[high + 1 :] = 0.0
        most = float(paths[low : high + 1].max(initial=0.0))
        if most == 0.0:
            return 1.0
        paths /= most
        scale += math.log(most)
    if paths[columns] == 0.0:
        return 1.0
    all_paths = math.lgamma(m + n + 1) - math.lgamma(m + 1) - math.lgamma(n + 1)
    within = math.exp(min(0.0, math.log(paths[columns]) + scale - all_paths))
    return min(1.0, max(0.0, 1.0 - within))


def _kolmogorov(value: float) -> float:
    """P(K >= value) of Kolmogorov's limit distribution."""
    if value < 0.2:
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * value) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def mann_whitney(window: Floats, reference: Floats) -> Shift:
    """Whether values are larger or smaller, two-sided, by the normal limit with ties.

    `window` [m] and `reference` [n] are not empty; the limit is good from 10 of each on.
    """
    m, n = len(window), len(reference)
    values = np.sort(reference)
    smaller = np.searchsorted(values, window, side="left")
    not_larger = np.searchsorted(values, window, side="right")
    wins = float((smaller + not_larger).sum()) / 2
    _, ties = np.unique(np.concatenate([window, reference]), return_counts=True)
    total = m + n
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1.0))
    variance = m * n / 12 * (total + 1 - tied)
    if variance <= 0:
        return Shift(0.5, 1.0)
    # Half a step towards the middle: the statistic is a whole number, the limit is not.
    beyond = max(0.0, abs(wins - m * n / 2) - 0.5) / math.sqrt(variance)
    return Shift(wins / (m * n), math.erfc(beyond / math.sqrt(2)))


def uniformity(p_values: Floats, scores: Floats) -> Distance:
    """Whether conformal p-values are as uniform as those of the calibration `scores` [n] behind.

    They are discrete, depend on one another through the scores they share, and lie too high where
    scores are tied: a table of uniform numbers would not do. Each tells between which scores a
    part's own lies, so this asks the exact question of two samples of these places.
    """
    n = len(scores)
    places: Floats = np.rint(p_values * (n + 1)).astype(np.float64)
    ordered = np.sort(scores)
    at_least = n - np.searchsorted(ordered, ordered, side="left")
    return kolmogorov_smirnov(places, at_least.astype(np.float64) + 1)


def rejected(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which to reject so that one or more is wrong with probability at most `rate` (Holm 1979)."""
    found = [False] * len(p_values)
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        if p_values[place] > rate / (len(p_values) - done):
            break
        found[place] = True
    return found
