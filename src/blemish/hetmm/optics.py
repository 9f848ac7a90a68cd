"""OPTICS for thousands of small sample sets at once, with scikit-learn's labels.

Source: Ankerst et al., "OPTICS: ordering points to identify the clustering structure" (SIGMOD
1999), figures 5-8; extraction by scikit-learn's `cluster_optics_xi`. HETMM.md section 4 needs one
OPTICS per pixel: the greedy walk stays serial over samples, so it is batched over pixels instead.

P = pixel columns, N = samples in a column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import cluster_optics_xi
from torch import Tensor

from blemish.errors import ParameterError

# scikit-learn rounds reachabilities to this many decimals, so that sums in another order still
# tie. Only float64 can follow it: in float32, rounding noise breaks ties that it keeps.
_DECIMALS = int(np.finfo(np.float64).precision)


class OpticsGraph(NamedTuple):
    """What OPTICS finds out about each column, as in scikit-learn's `compute_optics_graph`."""

    ordering: Tensor
    """[P,N] samples in the order in which the walk reached them."""
    reachability: Tensor
    """[P,N] float64, indexed by sample; inf for the sample where the walk began."""
    predecessor: Tensor
    """[P,N] sample from which each was reached; -1 for the one where the walk began."""
    core: Tensor
    """[P,N] float64, distance to the min_samples-th nearest sample, itself included."""


def optics_graph(distances: Tensor, min_samples: int) -> OpticsGraph:
    """Walk all columns of `distances` [P,N,N] (float64, symmetric) in N dense steps.

    No radius limit (max_eps = inf). Ties go to the lowest index. Equal to scikit-learn's walk.
    """
    _check(distances, min_samples)
    distances = torch.round(distances, decimals=_DECIMALS)
    columns, samples, _ = distances.shape
    core = distances.topk(min_samples, dim=2, largest=False).values[..., -1]  # (P, N)
    each = torch.arange(columns, device=distances.device)
    rows = distances.reshape(columns * samples, samples)  # row p * N + i: from sample i of column p

    reach = torch.full_like(core, torch.inf)  # of the samples not yet walked; inf once walked
    barrier = torch.full_like(core, -torch.inf)  # inf where walked: keeps `reach` at inf there
    source = torch.full_like(core, -1, dtype=torch.long)
    ordering = torch.empty_like(source)
    walked_reach = torch.empty_like(core)  # by step, not by sample
    for step in range(samples):
        # The first of equal minima; before step 0 all are inf, so the walk begins at sample 0.
        point = reach.argmin(dim=1)
        ordering[:, step] = point
        walked_reach[:, step] = reach[each, point]
        reach[each, point] = torch.inf
        barrier[each, point] = torch.inf
        via = torch.maximum(rows[each * samples + point], core[each, point, None])
        torch.maximum(via, barrier, out=via)
        source = torch.where(via < reach, point[:, None], source)
        torch.minimum(reach, via, out=reach)
    reachability = torch.empty_like(core).scatter_(1, ordering, walked_reach)
    return OpticsGraph(ordering, reachability, source, core)


def optics_labels(distances: Tensor, min_samples: int) -> Tensor:
    """Cluster labels [P,N] (int64, on the CPU, -1 = in no cluster) of `distances` [P,N,N].

    The same as `sklearn.cluster.OPTICS(min_samples=...).fit(x).labels_` with these distances as
    its metric, column by column: xi = 0.05, clusters of at least `min_samples`, predecessor
    correction. Distances a little below 0 are taken as they are, as with a callable metric there.
    """
    ordering, reachability, predecessor, _ = (
        part.cpu().numpy() for part in optics_graph(distances, min_samples)
    )
    labels = np.empty_like(ordering)
    # Samples that coincide are at distance 0, and scikit-learn divides by it.
    with np.errstate(divide="ignore", invalid="ignore"):
        for row in range(len(labels)):
            labels[row], _ = cluster_optics_xi(
                reachability=reachability[row],
                predecessor=predecessor[row],
                ordering=ordering[row],
                min_samples=min_samples,
            )
    return torch.from_numpy(labels)


def _check(distances: Tensor, min_samples: int) -> None:
    if distances.ndim != 3 or distances.shape[1] != distances.shape[2]:
        raise ParameterError(
            f"OPTICS needs distances of shape [pixels, samples, samples], got "
            f"{list(distances.shape)}; pass one square matrix per pixel."
        )
    if distances.dtype != torch.float64:
        raise ParameterError(
            f"OPTICS needs float64 distances for its ties to be right, got {distances.dtype}; "
            "convert the features with .double() before multiplying them."
        )
    if not 2 <= min_samples <= distances.shape[1]:
        raise ParameterError(
            f"OPTICS cannot use min_samples={min_samples} with {distances.shape[1]} samples; "
            "choose 2 or more, and no more than there are samples."
        )
