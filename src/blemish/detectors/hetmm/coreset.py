"""Few vectors that stand for many: greedy k-centre, farthest vectors first, several a step.

Gonzalez, "Clustering to minimize the maximum intercluster distance" (1985), as PatchCore uses it
for memory banks (Roth et al., CVPR 2022, section 3.2).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError
from blemish.imaging import Progress, silent

BATCH = 256  # vectors considered a step: one matrix product instead of as many passes over memory

Floats = npt.NDArray[np.float32]


def k_centre(
    vectors: Floats, k: int, *, batch: int = BATCH, progress: Progress = silent
) -> npt.NDArray[np.intp]:
    """Choose min(k, N) of the unit vectors [N, D] that cover all others closely: positions.

    Each step takes the `batch` vectors farthest from those chosen, and of these all that are still
    at least as far from each other as the least far of them is from the chosen ones. No vector
    then lies farther than that from a chosen one, so any two chosen are at least the final covering
    radius apart, which bounds it by twice the best possible (as distances |a - b|), as for one a
    step. The first is the vector nearest the mean. Positions are ascending.
    """
    if k < 1:
        raise ParameterError(f"the number of vectors to keep is {k}; it must be at least 1")
    count = len(vectors)
    if k >= count:
        return np.arange(count)
    first = int((vectors @ vectors.mean(axis=0)).argmax())
    chosen = [first]
    nearest = vectors @ vectors[first]  # (N,) cosine to the nearest chosen: 2 once chosen
    nearest[first] = 2.0
    while len(chosen) < k:
        # Never more than are still wanted: cut short, a step would not keep to its radius.
        wanted = min(batch, k - len(chosen))
        positions = np.argpartition(nearest, wanted - 1)[:wanted]
        positions = positions[np.lexsort((positions, nearest[positions]))]  # the farthest first
        picked = positions[_apart(vectors[positions], float(nearest[positions[-1]]))]
        np.maximum(nearest, (vectors @ vectors[picked].T).max(axis=1), out=nearest)
        nearest[picked] = 2.0
        chosen += picked.tolist()
        progress("thinning out templates", len(chosen), k)
    return np.array(sorted(chosen), np.intp)


def _apart(candidates: Floats, cosine: float) -> list[int]:
    """Choose the first candidates no two of which are nearer than `cosine`."""
    near = candidates @ candidates.T > cosine
    taken: list[int] = []
    for index in range(len(near)):
        if not near[index, taken].any():
            taken.append(index)
    return taken
