"""Few vectors that stand for many: greedy k-centre, farthest vectors first, several a step.

Gonzalez, "Clustering to minimize the maximum intercluster distance" (1985), as PatchCore uses it
for memory banks (Roth et al., CVPR 2022, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from blemish.errors import ParameterError
from blemish.imaging import Progress, silent

BATCH = 256  # vectors considered a step: one matrix product instead of as many passes over memory


def k_centre(vectors: Tensor, k: int, *, batch: int = BATCH, progress: Progress = silent) -> Tensor:
    """Positions [min(k, N)], ascending, of unit vectors [N, D] that cover all others closely.

    Each step takes the `batch` vectors farthest from those chosen, and of these all that are still
    at least as far from each other as the least far of them is from the chosen ones. No vector
    then lies farther than that from a chosen one, so any two chosen are at least the final covering
    radius apart, which bounds it by twice the best possible (as distances |a - b|), as for one a
    step. The first is the vector nearest the mean.
    """
    if k < 1:
        raise ParameterError(f"the number of vectors to keep is {k}; it must be at least 1")
    count = len(vectors)
    if k >= count:
        return torch.arange(count, device=vectors.device)
    first = int((vectors @ vectors.mean(0)).argmax())
    chosen = [first]
    nearest = vectors @ vectors[first]  # (N,) cosine to the nearest chosen: 2 once chosen
    nearest[first] = 2.0
    while len(chosen) < k:
        # Never more than are still wanted: cut short, a step would not keep to its radius.
        far, positions = nearest.topk(min(batch, k - len(chosen)), largest=False)
        new = _apart(vectors[positions], float(far[-1]))
        picked = positions[new]
        cosines = vectors @ vectors[picked].T  # (N, picked)
        torch.maximum(nearest, cosines.amax(1), out=nearest)
        nearest[picked] = 2.0
        chosen += picked.tolist()
        progress("thinning out templates", len(chosen), k)
    return torch.tensor(sorted(chosen), device=vectors.device)


def _apart(candidates: Tensor, cosine: float) -> Tensor:
    """Positions of candidates, the first ones first, no two of which are nearer than `cosine`."""
    near = (candidates @ candidates.T > cosine).cpu().numpy()
    taken: list[int] = []
    for index in range(len(near)):
        if not near[index, taken].any():
            taken.append(index)
    return torch.tensor(taken, device=candidates.device)
