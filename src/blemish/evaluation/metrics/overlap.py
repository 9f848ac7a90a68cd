"""Mean overlap with single defects, and its area over the false-positive rate: PRO and sPRO.

Overlap of a set P of pixels with defects A_i of saturation areas s_i is the mean over i of
min(|A_i & P| / s_i, 1): sPRO (Bergmann et al., "Beyond Dents and Scratches in Logical
Constraints", IJCV 2022, section 4). With s_i = |A_i| it is PRO ("The MVTec Anomaly Detection
Dataset", IJCV 2021, section 5). As the threshold falls, a defect's n-th pixel adds 1 / s_i while
n <= s_i and nothing later, so each pixel's share is known once its own defect is sorted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.metrics.pool import Pool, from_sort_keys, sort_keys

BLOCK = 1 << 20  # pixels taken at a time; bounds the memory of a walk, changes no figure
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)


class SaturatedDefect(Protocol):
    """One annotated defect: where it is, and how much of it is enough."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The defect's pixels, bool [H, W]."""

    @property
    def saturation_area(self) -> float:
        """The number of its pixels from which on it counts as covered."""


class Steps(NamedTuple):
    """What defective pixels add at D distinct scores, highest first; each array is [D]."""

    thresholds: NDArray[np.float32]
    hits: NDArray[np.int64]  # pixels with exactly this score
    gains: NDArray[np.float64]  # the rise of the sum of overlaps

    def rows(self, which: slice) -> Steps:
        """Some of the scores."""
        return Steps(self.thresholds[which], self.hits[which], self.gains[which])


class Overlaps:
    """The pixels of all defects, eight bytes each: the score's key, and the number of a share.

    A share is what a pixel of one defect adds to that defect's overlap. Each defect belongs to a
    group (a number), so that a walk can be confined to some kinds of defects.
    """

    def __init__(self) -> None:
        self._pixels: Pool[np.uint64] = Pool(np.uint64)
        self._shares: Pool[np.float64] = Pool(np.float64)
        self._group_of_share: Pool[np.int64] = Pool(np.int64)

    def add_regions(
        self, scores: NDArray[np.float32], regions: NDArray[np.integer], group: int
    ) -> int:
        """Add pixels [N] and each one's region, from 0 upward without gaps; how many regions."""
        areas = np.bincount(regions)
        self._add(scores, regions, 1.0 / areas, group)
        return len(areas)

    def add_defect(self, scores: NDArray[np.float32], saturation: float, group: int) -> None:
        """Add one defect's pixels [N]; only its highest `saturation` ones can ever add to it."""
        enough = min(math.ceil(saturation), scores.size)
        highest = np.sort(np.partition(scores, scores.size - enough)[scores.size - enough :])
        # Where the saturation area is no whole number, the last pixel adds what is still missing.
        last = min(saturation - (enough - 1), 1.0)
        numbers = np.zeros(enough, dtype=np.int64)
        numbers[0] = 1
        self._add(highest, numbers, np.array([1.0, last]) / saturation, group)

    def steps(self, groups: Collection[int]) -> Iterator[Steps]:
        """What the pixels of these groups add, from the highest score to the lowest, in blocks."""
        pixels, shares = self._pixels.sorted(), self._shares.values()
        chosen = np.isin(self._group_of_share.values(), list(groups))
        held: Steps | None = None  # a block's last score may go on in the next one
        for end in range(len(pixels), 0, -BLOCK):
            block = pixels[max(end - BLOCK, 0) : end][::-1]
            numbers = (block & _LOW).astype(np.int64)
            inside = chosen[numbers]
            if not inside.any():
                continue
            steps = _grouped(block[inside] >> _HIGH, shares[numbers[inside]])
            steps = steps if held is None else _joined(held, steps)
            held = steps.rows(slice(-1, None))
            if len(steps.hits) > 1:
                yield steps.rows(slice(None, -1))
        if held is not None:
            yield held

    def _add(
        self,
        scores: NDArray[np.float32],
        numbers: NDArray[np.integer],
        shares: NDArray[np.float64],
        group: int,
    ) -> None:
        keys = sort_keys(scores).astype(np.uint64)
        self._pixels.extend((keys << _HIGH) | (numbers + len(self._shares)).astype(np.uint64))
        self._shares.extend(shares)
        self._group_of_share.extend(np.full(shares.size, group))


class OverlapArea:
    """The area under summed overlap over false positives, up to `limit` of N good pixels.

    Between two thresholds the curve is flat (only good pixels are added); at a score that good
    and defective pixels share it slants, and is cut at the limit by linear interpolation.
    """

    def __init__(self, limit: float, n_negatives: int) -> None:
        self._stop = limit * n_negatives
        self._area = 0.0
        self._height = 0.0
        self._end = 0.0

    @property
    def complete(self) -> bool:
        """Whether the limit is reached: lower thresholds add nothing."""
        return self._end >= self._stop

    def add(
        self,
        gains: NDArray[np.float64],
        false_above: NDArray[np.int64],
        false_positives: NDArray[np.int64],
    ) -> None:
        """Go on with the curve at the next lower thresholds; each array is [D]."""
        after = self._height + np.cumsum(gains)
        before = np.concatenate(([self._height], after[:-1]))
        start = np.minimum(false_above, self._stop)
        end = np.minimum(false_positives, self._stop)
        self._area += float(before @ (start - np.concatenate(([self._end], end[:-1]))))
        tied = false_positives > false_above
        width = (end - start)[tied]
        run = (false_positives - false_above)[tied]
        self._area += float(width @ (before[tied] + gains[tied] * width / (2 * run)))
        self._height, self._end = float(after[-1]), float(end[-1])

    def mean(self, n_defects: int) -> float:
        """The area as a share of its width, and of the number of defects: in [0, 1]."""
        area = self._area + self._height * (self._stop - self._end)
        # Rounding in the sum of many small shares may pass 1 by a few units in the last place.
        return min(area / (self._stop * n_defects), 1.0)


def _grouped(keys: NDArray[np.uint64], shares: NDArray[np.float64]) -> Steps:
    """Pixels [N], highest first, summed up at each distinct score."""
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return Steps(
        from_sort_keys(keys[starts].astype(np.uint32)),
        np.diff(starts, append=len(keys)),
        np.add.reduceat(shares, starts),
    )


def _joined(held: Steps, steps: Steps) -> Steps:
    """The rows of both; a score that both have becomes one row."""
    if held.thresholds[0] != steps.thresholds[0]:
        return Steps(
            np.concatenate((held.thresholds, steps.thresholds)),
            np.concatenate((held.hits, steps.hits)),
            np.concatenate((held.gains, steps.gains)),
        )
    steps.hits[0] += held.hits[0]
    steps.gains[0] += held.gains[0]
    return steps
