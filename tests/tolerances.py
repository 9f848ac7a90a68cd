"""How far apart two ways of adding up the same numbers may lie: one table, by type and depth.

Processors add in lanes of 4, 8 or 16, with and without fused multiplications, over one thread or
several, so the last bits of a sum belong to the machine. A sum of n products, in whatever order, is
off by at most n u times the sum of their sizes, u the unit roundoff (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1). Roundings of both signs cancel: beyond some
tens of products it is off by less than 8 sqrt(n) u, but for one time in 10^13 (Higham and Mary,
SIAM J. Sci. Comput. 41, 2019). Two ways may each be off to either side, hence twice that.

What is compared with `==` has no sum behind it: copies, roundings to fewer bits, places, labels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
AROUND = 4  # roundings beside the sum: a vector's length, its quotient, 1 - cosine, a weight


def rounding(depth: int, dtype: str = "float32", *, scale: float = 1.0) -> float:
    """The most by which two ways of a sum of `depth` products may differ.

    `scale` is the sum of the products' sizes: at most 1 where unit vectors are multiplied. Sums one
    after the other (a convolution of a convolution) have the depth of all of them.
    """
    n = depth + AROUND
    return 2 * min(n, 8 * math.sqrt(n)) * ROUNDOFF[dtype] * scale


def assert_sums_agree(
    found: npt.ArrayLike, wanted: npt.ArrayLike, depth: int, dtype: str = "float32",
    *, scale: float | None = None,
) -> None:  # fmt: skip
    """Both are the same sums but for the order they were added up in.

    Without a `scale` it is the largest number there is, or 1 where that is less.
    """
    one, other = (np.asarray(values, np.float64) for values in (found, wanted))
    if scale is None:
        scale = max(1.0, float(np.abs(other).max(initial=0)))
    kept: dict[str, Any] = {"rtol": 0, "atol": rounding(depth, dtype, scale=scale)}
    np.testing.assert_allclose(one, other, **kept)
