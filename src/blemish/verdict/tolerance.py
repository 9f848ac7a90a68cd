"""Tolerance limits: at most a rate of good parts is rejected, with a confidence in this very limit.

A split-conformal rate holds on average over calibration sets; a tolerance limit holds for the set
at hand, in a share c of all such sets. With n independent good parts, more than a rate r lie above
the k-th smallest score with probability P(Binomial(n, r) <= n - k) at most, whatever the scores'
distribution (Wilks 1941; docs/calibration.md), so k is the smallest rank where that is <= 1 - c.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blemish.errors import CalibrationError
from blemish.verdict.conformal import check_rate

# Of logarithms: undoes rounding where a bound is met exactly, such as 0.9 ** 2 <= 1 - 0.19.
_SLACK = 1e-9


def tolerance_parts(rate: float, confidence: float) -> int:
    """The fewest good parts for which (1 - rate) ** n <= 1 - confidence: 299 for 1 % with 95 %."""
    check_rate(rate)
    check_rate(confidence, "confidence")
    return max(1, math.ceil((math.log1p(-confidence) + _SLACK) / math.log1p(-rate)))


def tolerance_threshold(scores: npt.ArrayLike, rate: float, confidence: float) -> float:
    """The lowest score above which, with this confidence, at most `rate` of good parts lie.

    `scores` [n] are of good parts, higher = worse. Raises `CalibrationError` with the number of
    parts needed when n is too small for the promise.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    check_tolerance(len(values), rate, confidence)
    return float(values[tolerance_rank(len(values), rate, confidence) - 1])


def check_tolerance(parts: int, rate: float, confidence: float) -> None:
    """Raise `CalibrationError` unless `parts` good parts can promise `rate` with `confidence`."""
    needed = tolerance_parts(rate, confidence)
    if parts < needed:
        # Rounded up, so that the rate as printed can be promised.
        possible = math.ceil(tolerance_rate(parts, confidence) * 1e5) / 1e5
        otherwise = f", or ask for a rate of {possible:g} or more" if possible < 1 else ""
        raise CalibrationError(
            f"A false-alarm rate of {rate:g} cannot be promised with confidence {confidence:g} "
            f"from {parts} good parts: it needs {needed}. Show more good parts{otherwise}.",
            needed=needed,
        )


def tolerance_rate(parts: int, confidence: float) -> float:
    """The smallest rate that `parts` good parts can promise: 1 - (1 - confidence) ** (1 / n)."""
    check_rate(confidence, "confidence")
    return -math.expm1(math.log1p(-confidence) / parts) if parts else 1.0


def tolerance_rank(parts: int, rate: float, confidence: float) -> int:
    """k, the smallest rank with P(Binomial(n, rate) <= n - k) <= 1 - confidence; n + 1 if none."""
    # Terms of the binomial in logarithms: (1 - rate) ** n alone may be too small for a float.
    log_odds = math.log(rate) - math.log1p(-rate)
    log_term = parts * math.log1p(-rate)
    above, total = 0, math.exp(log_term)
    most = (1 - confidence) * math.exp(_SLACK)
    while total <= most and above < parts:
        log_term += math.log((parts - above) / (above + 1)) + log_odds
        above += 1
        total += math.exp(log_term)
    return parts - above + 1
