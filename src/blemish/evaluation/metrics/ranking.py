"""AUROC, average precision and best F1 as sums over the distinct scores of the positives.

At every such score it is enough to know how many positives have it and how many negatives score
higher or at least as high; thresholds in between only add false alarms, so none of the figures
needs them. AUROC is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982); average
precision is the uninterpolated sum. The sums take their rows in blocks, highest scores first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class F1:
    """The best F1 score, and the highest threshold that reaches it (score >= threshold)."""

    value: float
    threshold: float


@dataclass(frozen=True)
class Rows:
    """Counts at D distinct scores of positives, highest first; each array is [D]."""

    thresholds: NDArray[np.floating]
    hits: NDArray[np.int64]  # positives with exactly this score
    false_above: NDArray[np.int64]  # negatives with score > threshold
    false_positives: NDArray[np.int64]  # negatives with score >= threshold


class Tally:
    """The three figures of P positives against N negatives, both at least 1."""

    def __init__(self, n_positives: int, n_negatives: int) -> None:
        self._n_positives = n_positives
        self._n_negatives = n_negatives
        self._found = 0
        self._won_twice = 0  # an integer: AUROC is exact up to the last division
        self._precision = 0.0
        self._best = F1(-1.0, 0.0)

    def add(self, rows: Rows) -> None:
        """Count the next rows; their thresholds lie below all earlier ones."""
        true_positives = self._found + np.cumsum(rows.hits)
        called = true_positives + rows.false_positives
        won_twice = 2 * self._n_negatives - rows.false_positives - rows.false_above
        self._won_twice += int(rows.hits @ won_twice)
        self._precision += float(rows.hits @ (true_positives / called))
        f1 = 2 * true_positives / (self._n_positives + called)
        best = int(np.argmax(f1))
        if f1[best] > self._best.value:
            self._best = F1(float(f1[best]), float(rows.thresholds[best]))
        self._found = int(true_positives[-1])

    def auroc(self) -> float:
        """Mann-Whitney U over the number of pairs."""
        return self._won_twice / (2 * self._n_positives * self._n_negatives)

    def average_precision(self) -> float:
        """Sum over thresholds of the gain in recall times the precision."""
        return self._precision / self._n_positives

    def f1_max(self) -> F1:
        """The largest 2 TP / (P + TP + FP), at the highest threshold where it occurs."""
        return self._best


def count_above(
    negatives: NDArray[np.floating], thresholds: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the ascending `negatives` [N] score > and >= each descending threshold [D]."""
    ascending = thresholds[::-1]
    # Only the negatives between the two ends are searched: they stay in the cache, and needles
    # that ascend are found faster.
    first = int(np.searchsorted(negatives, ascending[0], side="left"))
    last = int(np.searchsorted(negatives, ascending[-1], side="right"))
    between = negatives[first:last]
    right = np.searchsorted(between, ascending, side="right")
    left = right.copy()
    tied = np.flatnonzero(right)
    tied = tied[between[right[tied] - 1] == ascending[tied]]
    left[tied] = np.searchsorted(between, ascending[tied], side="left")
    n_above_first = len(negatives) - first
    return (n_above_first - right)[::-1], (n_above_first - left)[::-1]
