"""OPTICS for thousands of small sample sets at once, with scikit-learn's labels.

Source: Ankerst et al., "OPTICS: ordering points to identify the clustering structure" (SIGMOD
1999), figures 5-8; extraction by scikit-learn's `cluster_optics_xi`. PTS needs one OPTICS per
pixel: the greedy walk stays serial over samples, so it is batched over pixels instead.

P = pixel columns, N = samples in a column.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blemish.errors import MissingExtraError, ParameterError

# scikit-learn rounds reachabilities to this many decimals, so that sums in another order still
# tie. Only float64 can follow it: in float32, rounding noise breaks ties that it keeps.
_DECIMALS = int(np.finfo(np.float64).precision)

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


class OpticsGraph(NamedTuple):
    """What OPTICS finds out about each column, as in scikit-learn's `compute_optics_graph`."""

    ordering: Places
    """[P,N] samples in the order in which the walk reached them."""
    reachability: Doubles
    """[P,N], indexed by sample; inf for the sample where the walk began."""
    predecessor: Places
    """[P,N] sample from which each was reached; -1 for the one where the walk began."""
    core: Doubles
    """[P,N], distance to the min_samples-th nearest sample, itself included."""


def optics_graph(distances: Doubles, min_samples: int) -> OpticsGraph:
    """Walk all columns of `distances` [P,N,N] (float64, symmetric) in N dense steps.

    No radius limit (max_eps = inf). Ties go to the lowest index. Equal to scikit-learn's walk.
    """
    _check(distances, min_samples)
    distances = np.round(distances, _DECIMALS)
    columns, samples, _ = distances.shape
    core = np.partition(distances, min_samples - 1, axis=2)[:, :, min_samples - 1]  # (P, N)
    each = np.arange(columns)

    reach = np.full_like(core, np.inf)  # of the samples not yet walked; inf once walked
    barrier = np.full_like(core, -np.inf)  # inf where walked: keeps `reach` at inf there
    source = np.full(core.shape, -1, np.intp)
    ordering = np.empty_like(source)
    reachability = np.empty_like(core)
    for step in range(samples):
        # The first of equal minima; before step 0 all are inf, so the walk begins at sample 0.
        point = reach.argmin(axis=1)
        ordering[:, step] = point
        reachability[each, point] = reach[each, point]
        reach[each, point] = np.inf
        barrier[each, point] = np.inf
        via = np.maximum(distances[each, point], core[each, point, None])
        np.maximum(via, barrier, out=via)
        source = np.where(via < reach, point[:, None], source)
        np.minimum(reach, via, out=reach)
    return OpticsGraph(ordering, reachability, source, core)


def optics_labels(distances: Doubles, min_samples: int) -> Places:
    """Cluster labels [P,N] (-1 = in no cluster) of `distances` [P,N,N].

    The same as `sklearn.cluster.OPTICS(min_samples=...).fit(x).labels_` with these distances as
    its metric, column by column: xi = 0.05, clusters of at least `min_samples`, predecessor
    correction. Distances a little below 0 are taken as they are, as with a callable metric there.
    Raises MissingExtraError without scikit-learn.
    """
    extract = _cluster_optics_xi()
    ordering, reachability, predecessor, _ = optics_graph(distances, min_samples)
    labels = np.empty_like(ordering)
    # Samples that coincide are at distance 0, and scikit-learn divides by it.
    with np.errstate(divide="ignore", invalid="ignore"):
        for row in range(len(labels)):
            labels[row], _ = extract(
                reachability=reachability[row],
                predecessor=predecessor[row],
                ordering=ordering[row],
                min_samples=min_samples,
            )
    return labels


def _cluster_optics_xi() -> Any:
    try:
        from sklearn.cluster import cluster_optics_xi
    except ImportError as error:
        raise MissingExtraError(
            "selection 'pts' clusters with scikit-learn, which is not installed here; install it "
            "with: pip install 'blemish[train]', or choose selection 'kcenter'"
        ) from error
    return cluster_optics_xi


def _check(distances: Doubles, min_samples: int) -> None:
    if distances.ndim != 3 or distances.shape[1] != distances.shape[2]:
        raise ParameterError(
            f"OPTICS needs distances of shape [pixels, samples, samples], got "
            f"{list(distances.shape)}; pass one square matrix per pixel."
        )
    if distances.dtype != np.float64:
        raise ParameterError(
            f"OPTICS needs float64 distances for its ties to be right, got {distances.dtype}; "
            "convert the features to float64 before multiplying them."
        )
    if not 2 <= min_samples <= distances.shape[1]:
        raise ParameterError(
            f"OPTICS cannot use min_samples={min_samples} with {distances.shape[1]} samples; "
            "choose 2 or more, and no more than there are samples."
        )
