"""Split-conformal thresholds and p-values: a false-alarm rate that is promised, not guessed.

If a new good part is exchangeable with the n good parts behind the calibration scores, its score
lies above the k-th smallest of them, k = ceil((n + 1)(1 - a)), with probability at most a, whatever
the scores' distribution (Vovk, Gammerman, Shafer 2005; docs/calibration.md).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blemish.errors import CalibrationError, ParameterError


def parts_needed(rate: float) -> int:
    """The fewest good parts with which a false-alarm rate can be promised: ceil(1/rate) - 1."""
    check_rate(rate)
    return math.ceil(1 / rate - 1e-9) - 1


def conformal_threshold(scores: npt.ArrayLike, rate: float) -> float:
    """The threshold that rejects a good part with probability at most `rate`.

    `scores` [n] are of good parts, higher = worse. Raises `CalibrationError` with the number of
    parts needed when n is too small for the promise.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    check_parts(len(values), rate)
    # The tiny slack undoes rounding such as (19 + 1) * (1 - 0.05) = 19.000000000000004.
    rank = math.ceil((len(values) + 1) * (1 - rate) - 1e-9)
    return float(values[rank - 1])


def check_parts(parts: int, rate: float) -> None:
    """Raise `CalibrationError` unless `parts` good parts can promise `rate`."""
    needed = parts_needed(rate)
    if parts < needed:
        # Rounded up, so that the rate as printed can be promised.
        possible = math.ceil(smallest_rate(parts) * 1e5) / 1e5
        otherwise = f", or ask for {possible:g} or more" if parts else ""
        raise CalibrationError(
            f"A false-alarm rate of {rate:g} cannot be promised from {parts} good parts: it needs "
            f"{needed}. Show more good parts{otherwise}.",
            needed=needed,
        )


def smallest_rate(parts: int) -> float:
    """The smallest false-alarm rate that `parts` good parts can promise: 1 / (parts + 1)."""
    return 1 / (parts + 1)


def p_value(score: float, scores: npt.ArrayLike) -> float:
    """How often a good part would look at least this bad: (1 + #{s_i >= score}) / (n + 1)."""
    values = np.asarray(scores, dtype=np.float64)
    return float((1 + np.count_nonzero(values >= score)) / (values.size + 1))


def check_rate(rate: float, name: str = "false-alarm rate") -> None:
    """Raise unless `rate` is a probability strictly between 0 and 1; `name` says of what."""
    if not 0 < rate < 1:
        raise ParameterError(f"the {name} is {rate:g}; it must lie between 0 and 1")
