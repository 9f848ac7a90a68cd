"""Exact AUROC, average precision and best F1 of scores against labels, ties taken together.

All three follow from one small table: at every distinct score of a defective item, how many
defective and how many good items score at least as high. Thresholds between those scores only
add false alarms, so none of the three figures needs them. AUROC is the Mann-Whitney statistic
(Hanley and McNeil, Radiology 143, 1982); average precision is the uninterpolated sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import ParameterError


@dataclass(frozen=True)
class F1:
    """The best F1 score, and the highest threshold that reaches it (score >= threshold)."""

    value: float
    threshold: float


@dataclass(frozen=True)
class Ranking:
    """Counts at the D distinct scores of the positives, highest first; each array is [D]."""

    thresholds: NDArray[np.floating]
    true_positives: NDArray[np.int64]  # positives with score >= threshold
    false_positives: NDArray[np.int64]  # negatives with score >= threshold
    false_above: NDArray[np.int64]  # negatives with score > threshold
    n_negatives: int

    @property
    def n_positives(self) -> int:
        """The number of positives behind the table."""
        return int(self.true_positives[-1])

    def auroc(self) -> float:
        """Mann-Whitney U over the number of pairs, in integers up to the last division."""
        new = np.diff(self.true_positives, prepend=0)
        won_twice = 2 * self.n_negatives - self.false_positives - self.false_above
        return int(new @ won_twice) / (2 * self.n_positives * self.n_negatives)

    def average_precision(self) -> float:
        """Sum over thresholds of the gain in recall times the precision."""
        new = np.diff(self.true_positives, prepend=0)
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(new @ precision) / self.n_positives

    def f1_max(self) -> F1:
        """The largest 2 TP / (P + TP + FP), at the highest threshold where it occurs."""
        called = self.true_positives + self.false_positives
        f1 = 2 * self.true_positives / (self.n_positives + called)
        best = int(np.argmax(f1))
        return F1(float(f1[best]), float(self.thresholds[best]))


def rank(
    positives: NDArray[np.floating], negatives: NDArray[np.floating]
) -> tuple[Ranking, NDArray[np.int64]]:
    """Rank two ascending, non-empty score arrays against each other.

    Also returns `ends` [D]: the positives of threshold d and above are `positives[ends[d]:]`.
    """
    first = np.concatenate(([True], positives[1:] != positives[:-1]))
    ends = np.flatnonzero(first)[::-1]
    thresholds = positives[ends]
    n_negatives = len(negatives)
    ranking = Ranking(
        thresholds,
        true_positives=len(positives) - ends,
        false_positives=n_negatives - np.searchsorted(negatives, thresholds, side="left"),
        false_above=n_negatives - np.searchsorted(negatives, thresholds, side="right"),
        n_negatives=n_negatives,
    )
    return ranking, ends


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve; None unless both labels (0 good, 1 defective) occur.

    Raises ParameterError where labels [N] and scores [N] do not fit each other.
    """
    ranking = _rank_labelled(labels, scores)
    return None if ranking is None else ranking.auroc()


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Average precision; None unless both labels occur. Raises as `auroc` does."""
    ranking = _rank_labelled(labels, scores)
    return None if ranking is None else ranking.average_precision()


def f1_max(labels: ArrayLike, scores: ArrayLike) -> F1 | None:
    """The best F1 and its threshold; None unless both labels occur. Raises as `auroc` does."""
    ranking = _rank_labelled(labels, scores)
    return None if ranking is None else ranking.f1_max()


def _rank_labelled(labels: ArrayLike, scores: ArrayLike) -> Ranking | None:
    truth, values = np.asarray(labels), np.asarray(scores)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ParameterError(
            f"labels have shape {truth.shape} and scores {values.shape}; "
            "give two lists of one length, one label and one score an image"
        )
    if truth.size == 0:
        return None
    if not np.isin(truth, (0, 1)).all():
        raise ParameterError("a label is neither 0 nor 1; use 0 for good and 1 for defective")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ParameterError("a score is not a finite number; check what the detector returned")
    defective = truth.astype(bool)
    positives, negatives = np.sort(values[defective]), np.sort(values[~defective])
    if not positives.size or not negatives.size:
        return None
    return rank(positives, negatives)[0]
