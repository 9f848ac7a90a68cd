"""Rules: what is asked of the thresholds, a promise about good parts or a number set by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy.typing as npt

from blemish.errors import CalibrationError, ParameterError
from blemish.verdict.conformal import (
    check_parts,
    check_rate,
    conformal_threshold,
    parts_needed,
    smallest_rate,
)
from blemish.verdict.rounding import rounded_up
from blemish.verdict.tolerance import (
    check_tolerance,
    tolerance_parts,
    tolerance_rate,
    tolerance_threshold,
)

Promise = Literal["average", "confidence", "none"]


@dataclass(frozen=True)
class Rule:
    """How the thresholds are set.

    By a promise: at most `false_alarm_rate` of good parts fail and at most `review_rate` are not
    passed; on average over calibration sets, or for the set at hand with a `confidence`. By hand:
    `threshold`. The `review_threshold` is set by hand in either case. Raises ParameterError for
    what contradicts itself.
    """

    false_alarm_rate: float | None = None
    confidence: float | None = None
    review_rate: float | None = None
    threshold: float | None = None
    review_threshold: float | None = None

    def __post_init__(self) -> None:
        if (self.false_alarm_rate is None) == (self.threshold is None):
            raise ParameterError(
                "give a false-alarm rate or a threshold: one that is set by hand promises no rate"
            )
        if self.threshold is not None and (self.confidence, self.review_rate) != (None, None):
            raise ParameterError(
                "a threshold set by hand goes with neither a confidence nor a review rate, which "
                "belong to a promise; give a review threshold, or a false-alarm rate instead"
            )
        if self.review_rate is not None and self.review_threshold is not None:
            raise ParameterError("give a review rate or a review threshold, not both")
        self._check_values()

    def _check_values(self) -> None:
        if self.false_alarm_rate is not None:
            check_rate(self.false_alarm_rate)
        if self.confidence is not None:
            check_rate(self.confidence, "confidence")
        if self.review_rate is not None:
            check_rate(self.review_rate, "review rate")
            if self.false_alarm_rate is not None and self.review_rate < self.false_alarm_rate:
                raise ParameterError(
                    f"the review rate {self.review_rate:g} is below the false-alarm rate "
                    f"{self.false_alarm_rate:g}; what fails is counted in both, so give at least "
                    "that"
                )
        for name, value in (
            ("threshold", self.threshold),
            ("review threshold", self.review_threshold),
        ):
            if value is not None and not math.isfinite(value):
                raise ParameterError(f"the {name} is {value}; give a number")
        if self.threshold is not None:
            check_order(self.review_threshold, self.threshold)

    @property
    def promise(self) -> Promise:
        """How a rate is meant: on average, with a confidence, or (set by hand) not at all."""
        if self.false_alarm_rate is None:
            return "none"
        return "average" if self.confidence is None else "confidence"

    def at(self, rate: float) -> Rule:
        """The same at another false-alarm rate; a threshold set by hand gives way to it."""
        return replace(self, false_alarm_rate=rate, threshold=None)

    @property
    def needed(self) -> int:
        """The fewest good parts from which it can be kept."""
        if self.false_alarm_rate is None:
            return 1
        if self.confidence is None:
            return parts_needed(self.false_alarm_rate)
        return tolerance_parts(self.false_alarm_rate, self.confidence)

    def check(self, parts: int) -> None:
        """Raise `CalibrationError`, with the number needed, unless `parts` good parts will do."""
        if self.false_alarm_rate is None:
            if parts < 1:
                raise CalibrationError(
                    "There is no good part to score; give a folder of good parts.", needed=1
                )
        elif self.confidence is None:
            check_parts(parts, self.false_alarm_rate)
        else:
            check_tolerance(parts, self.false_alarm_rate, self.confidence)

    def promised(self, scores: npt.ArrayLike, rate: float) -> float:
        """What at most `rate` of good parts exceed, in the sense of this promise.

        A little above a good part's score, which must not exceed itself on another machine.
        """
        if self.confidence is None:
            return conformal_threshold(rounded_up(scores), rate)
        return tolerance_threshold(rounded_up(scores), rate, self.confidence)


def least_rate(parts: int, confidence: float | None = None) -> float:
    """The smallest false-alarm rate that `parts` good parts can promise in this sense."""
    return smallest_rate(parts) if confidence is None else tolerance_rate(parts, confidence)


def check_order(review_threshold: float | None, threshold: float) -> None:
    """Raise ParameterError where a review threshold lies above the threshold."""
    if review_threshold is not None and review_threshold > threshold:
        raise ParameterError(
            f"the review threshold {review_threshold:g} lies above the threshold {threshold:.6g}; "
            "parts go to review before they fail, so give at most that"
        )
