"""Calibration: the good parts' scores, the rate that was asked for, and the threshold it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from blemish.verdict.conformal import conformal_threshold, p_value

Verdict = Literal["pass", "review", "fail"]


@dataclass(frozen=True)
class Calibration:
    """What good parts look like in scores, and the promise that follows.

    `scores` of good parts and `peaks` of their maps (both sorted), how they were made (`method`:
    `leave-one-out` or `held-out`), the promised
    `false_alarm_rate`, the `threshold` above which a part fails, and the `region_threshold` above
    which a pixel belongs to a region (the same number where the score is the map's maximum).
    """

    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    method: str
    false_alarm_rate: float
    threshold: float
    region_threshold: float

    @classmethod
    def from_scores(
        cls, scores: npt.ArrayLike, rate: float, *, method: str, peaks: npt.ArrayLike
    ) -> Calibration:
        """Split-conformal calibration; raises `CalibrationError` when the rate can't be promised.

        `scores` and `peaks` [n] are the scores of good parts and the maxima of their maps.
        """
        return cls(
            scores=_sorted(scores),
            peaks=_sorted(peaks),
            method=method,
            false_alarm_rate=rate,
            threshold=conformal_threshold(scores, rate),
            region_threshold=conformal_threshold(peaks, rate),
        )

    def at_rate(self, rate: float) -> Calibration:
        """The same good parts at another false-alarm rate."""
        return Calibration.from_scores(self.scores, rate, method=self.method, peaks=self.peaks)

    def p_value(self, score: float) -> float:
        """How often a good part would look at least this bad."""
        return p_value(score, self.scores)

    def verdict(self, score: float) -> Verdict:
        """`fail` above the threshold, which is where the p-value is at most the rate."""
        return "pass" if score <= self.threshold else "fail"  # so that NaN fails


def _sorted(values: npt.ArrayLike) -> tuple[float, ...]:
    return tuple(np.sort(np.asarray(values, dtype=np.float64).ravel()).tolist())
