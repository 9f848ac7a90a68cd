"""How far good parts lie from each other, and what a distance is worth beside that.

A distance says little without how much good parts vary. Two measures of it, both from good parts
that are matched with all others (docs/methods/hetmm.md): by the place, m and s of leave-one-out
maps; by the template found, its radius (LDKNN; Yang et al., REB, arXiv 2308.12577).

Letters: G branches (within windows, location-free), n parts measured, h x w the common grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.detectors.maps import gaussian_matrix
from blemish.errors import BundleError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

LEAST = 4  # parts: of fewer nothing can be said
SMOOTHING = 1 / 16  # of the grid's side: sigma of the Gaussian over mean and variance
PRIOR = 30  # parts that are taken to have the median variance, beside those measured: where
# nothing ever varies, noise must not scream
NEIGHBOURS = 3  # of other images, whose mean distance is a template's radius
TAILS = (0.01, 0.1)  # shares of a map whose mean is, with the maximum, its score
_RUN = 512  # vectors compared at a time


@dataclass(frozen=True)
class Normalisation:
    """Sums and sums of squares [G, h, w] of the maps of `samples` [n], each without itself."""

    sums: Doubles
    squares: Doubles
    samples: Integers

    @classmethod
    def from_maps(cls, maps: Sequence[Floats], samples: Sequence[int]) -> Normalisation | None:
        """Add up maps [G, h, w], one a sample; None for fewer than `LEAST`."""
        if len(maps) < LEAST:
            return None
        whole = np.stack(maps).astype(np.float64)
        return cls(whole.sum(axis=0), (whole**2).sum(axis=0), np.array(samples, np.int32))

    def applied(self, maps: Floats, sample: int = -1) -> Floats:
        """Turn distances [G, h, w] into sum_g (D_g - m_g) / s_g [h, w].

        Of a `sample` that was measured, `maps` must be those without itself: m and s are then of
        the others alone, as they would be had it come later.
        """
        if sample < 0 or sample not in self.samples:
            mean, deviation = self.moments
        else:
            own = maps.astype(np.float64)
            mean, deviation = _moments(
                self.sums - own, self.squares - own**2, len(self.samples) - 1
            )
        found: Floats = ((maps - mean) / deviation).sum(axis=0).astype(np.float32)
        return found

    @cached_property
    def moments(self) -> tuple[Doubles, Doubles]:
        """Mean and deviation [G, h, w] at each place."""
        return _moments(self.sums, self.squares, len(self.samples))

    def without(self, positions: Sequence[int]) -> Normalisation:
        """Number the samples as they are once the templates at `positions` are gone.

        What those added to the sums stays, for their maps are not at hand.
        """
        gone = np.sort(np.array(positions, np.int32))
        kept = self.samples[~np.isin(self.samples, gone)]
        # Those that are gone still count: as samples that no template has.
        lost = np.full(len(self.samples) - len(kept), -1, np.int32)
        moved = kept - np.searchsorted(gone, kept).astype(np.int32)
        return Normalisation(self.sums, self.squares, np.concatenate([moved, lost]))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Give the named tensors of the bundle."""
        return {"sums": self.sums, "squares": self.squares, "samples": self.samples}

    @classmethod
    def from_state(
        cls, state: Mapping[str, npt.NDArray[Any]], shape: tuple[int, int, int], where: str
    ) -> Normalisation:
        """Take back what `state` gave, for branches and a grid of `shape`."""
        values = [state.get(name) for name in ("sums", "squares", "samples")]
        sums, squares, samples = values
        if (
            sums is None or squares is None or samples is None
            or sums.shape != shape or squares.shape != shape or samples.ndim != 1
            or sums.dtype != np.float64 or squares.dtype != np.float64
            or samples.dtype != np.int32 or len(samples) < LEAST
            or not np.isfinite(sums).all() or not np.isfinite(squares).all()
        ):  # fmt: skip
            raise BundleError(f"{where}: how good parts vary does not fit its levels; fit again")
        return cls(sums, squares, samples)


def _moments(sums: Doubles, squares: Doubles, count: int) -> tuple[Doubles, Doubles]:
    height, width = sums.shape[1:]
    rows, columns = _smoother(height), _smoother(width).T
    mean = sums / count
    variance = np.maximum(squares / count - mean**2, 0)
    mean, variance = rows @ mean @ columns, rows @ variance @ columns
    usual = np.median(variance, axis=(1, 2), keepdims=True)
    deviation = np.sqrt((count * variance + PRIOR * usual) / (count + PRIOR))
    # Parts that are all alike vary by nothing: their distances are left as they are.
    return mean, np.where(deviation > 1e-6, deviation, 1.0)


@lru_cache(maxsize=8)
def _smoother(length: int) -> Doubles:
    return gaussian_matrix(length, SMOOTHING * length)


def tail(values: npt.NDArray[np.floating]) -> float:
    """Give the mean of the maximum, the upper 1 % and the upper 10 % of a map's values [P].

    The maximum alone is best for the smallest defects, the means for wide and faint ones.
    """
    counts = [max(1, round(share * len(values))) for share in TAILS]
    upper = np.partition(values, len(values) - counts[-1])[len(values) - counts[-1] :]
    upper.sort()
    means = [upper[-count:].mean(dtype=np.float64) for count in counts]
    return float((upper[-1] + sum(means)) / (1 + len(TAILS)))


def radii(vectors: Floats, sources: Integers, queries: Floats, own: Integers) -> Floats:
    """Compute the radii [Q] of unit vectors `queries` [Q, D] of the images `own` [Q].

    A radius is the mean distance to the three nearest of `vectors` [M, D] from other images; 0
    where there is no other.
    """
    found = np.zeros(len(queries), np.float32)
    for start in range(0, len(queries), _RUN):
        part = queries[start : start + _RUN]
        cosines = part @ vectors.T
        cosines[own[start : start + _RUN, None] == sources] = -np.inf
        rows = np.arange(len(part))
        total, seen = np.zeros(len(part), np.float32), np.zeros(len(part), np.float32)
        for _ in range(NEIGHBOURS):
            nearest = cosines.argmax(axis=1)
            cosine = cosines[rows, nearest]
            there = np.isfinite(cosine)
            total[there] += 1 - cosine[there]
            seen += there
            cosines[rows, nearest] = -np.inf
        found[start : start + _RUN] = total / np.maximum(seen, 1)
    return found
