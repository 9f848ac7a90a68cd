"""Exact AUROC, average precision and best F1 of scores against labels, ties taken together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from blemish.errors import ParameterError
from blemish.evaluation.metrics.ranking import F1, Rows, Tally, count_above


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve; None unless both labels (0 good, 1 defective) occur.

    Raises ParameterError where labels [N] and scores [N] do not fit each other.
    """
    tally = _tally(labels, scores)
    return None if tally is None else tally.auroc()


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Average precision; None unless both labels occur. Raises as `auroc` does."""
    tally = _tally(labels, scores)
    return None if tally is None else tally.average_precision()


def f1_max(labels: ArrayLike, scores: ArrayLike) -> F1 | None:
    """The best F1 and its threshold; None unless both labels occur. Raises as `auroc` does."""
    tally = _tally(labels, scores)
    return None if tally is None else tally.f1_max()


def _tally(labels: ArrayLike, scores: ArrayLike) -> Tally | None:
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
    positives, negatives = values[defective], np.sort(values[~defective])
    if not positives.size or not negatives.size:
        return None
    ascending, hits = np.unique(positives, return_counts=True)
    thresholds = ascending[::-1]
    tally = Tally(positives.size, negatives.size)
    tally.add(Rows(thresholds, hits[::-1], *count_above(negatives, thresholds)))
    return tally
