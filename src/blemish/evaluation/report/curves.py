"""What the charts are drawn from: ROC points and the threshold, for the page and for the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.metrics import f1_max

if TYPE_CHECKING:
    from blemish.evaluation.results import Case, CategoryResult


@dataclass(frozen=True)
class Limit:
    """A threshold on the scores; what lies above it is called defective."""

    value: float
    promised_rate: float | None
    """The false-alarm rate it was calibrated for; None where it was found on the test images."""


@dataclass(frozen=True)
class Roc:
    """The ROC curve of image scores, from (0, 0) to (1, 1), with equal scores taken together."""

    false_positive_rate: NDArray[np.float64]  # [N]
    true_positive_rate: NDArray[np.float64]  # [N]


def scores_of(cases: Sequence[Case], label: int) -> list[float]:
    """The scores of the good (0) or the defective (1) cases."""
    return [case.score for case in cases if case.label == label]


def limit_of(result: CategoryResult) -> Limit | None:
    """The calibrated threshold; else the one of the best F1, which only the test labels tell."""
    if result.false_alarms is not None:
        return Limit(result.false_alarms.threshold, result.false_alarms.rate)
    best = f1_max([case.label for case in result.cases], [case.score for case in result.cases])
    # F1 counts a score that equals its threshold as defective; a limit counts what exceeds it.
    return None if best is None else Limit(float(np.nextafter(best.threshold, -np.inf)), None)


def roc_of(cases: Sequence[Case]) -> Roc | None:
    """The ROC curve; None unless both good and defective cases occur."""
    labels = [case.label for case in cases]
    if len(set(labels)) < 2:
        return None
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(labels, [case.score for case in cases])
    return Roc(np.asarray(false, np.float64), np.asarray(true, np.float64))


def operating_point(cases: Sequence[Case], limit: Limit) -> tuple[float, float]:
    """The (false, true) positive rates at the limit; both labels must occur."""
    good, bad = np.array(scores_of(cases, 0)), np.array(scores_of(cases, 1))
    return float((good > limit.value).mean()), float((bad > limit.value).mean())
