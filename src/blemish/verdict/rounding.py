"""What the last bits of a score are worth: nothing, so no verdict hangs on them.

The order in which a processor adds belongs to it: to its lanes, its fused multiplications, its
threads. Measured over instruction sets, threads and runtimes, a part's score moves by up to 1e-6 of
its size, and a distance of unit vectors (1 - cosine) by up to 7e-7 however small it is
(docs/numerics.md). The thresholds' allowance is above both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-5  # of a score's size: less is the same number, added up in another order
LEAST = 1e-6  # however small the score


def rounded_up(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The most that each score can be on another machine; their order stays."""
    values = np.asarray(scores, dtype=np.float64)
    return np.asarray(values + np.maximum(ROUNDING * np.abs(values), LEAST), dtype=np.float64)
