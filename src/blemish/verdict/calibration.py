"""Calibration: the good parts' scores, what was asked of the thresholds, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from blemish.verdict.conformal import p_value
from blemish.verdict.rounding import rounded_up
from blemish.verdict.rule import Promise, Rule, check_order

Verdict = Literal["pass", "review", "fail"]


@dataclass(frozen=True)
class Calibration:
    """What good parts look like in scores, and the thresholds that follow.

    `scores` of good parts and `peaks` of their maps (both sorted), and how they were made
    (`method`: `leave-one-out` or `held-out`). A part fails above the `threshold` and goes to review
    above the `review_threshold`, if there is one; pixels above `region_threshold`, or
    `region_review_threshold`, belong to its regions (the same numbers where the score is the map's
    maximum). `promise` says what `false_alarm_rate` and `review_rate` mean: kept on `average` over
    calibration sets, with a `confidence`, or `none`: the threshold was set by hand.
    """

    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    method: str
    false_alarm_rate: float | None
    threshold: float
    region_threshold: float
    promise: Promise = "average"
    confidence: float | None = None
    review_rate: float | None = None
    review_threshold: float | None = None
    region_review_threshold: float | None = None

    @classmethod
    def from_scores(
        cls, scores: npt.ArrayLike, rule: Rule, *, method: str, peaks: npt.ArrayLike
    ) -> Calibration:
        """The thresholds that `rule` gives for good parts.

        `scores` and `peaks` [n] are the scores of good parts and the maxima of their maps. Raises
        `CalibrationError` for a promise that n parts cannot keep, ParameterError for a review
        threshold set by hand above the threshold.
        """
        ordered, highest = _sorted(scores), _sorted(peaks)

        def limit(rate: float | None, by_hand: float | None) -> tuple[float | None, float | None]:
            if rate is not None:
                return rule.promised(ordered, rate), rule.promised(highest, rate)
            return by_hand, None if by_hand is None else _counterpart(by_hand, ordered, highest)

        threshold, region = limit(rule.false_alarm_rate, rule.threshold)
        review, region_review = limit(rule.review_rate, rule.review_threshold)
        assert threshold is not None  # a rule has a rate or a threshold
        assert region is not None
        check_order(review, threshold)
        return cls(
            scores=ordered,
            peaks=highest,
            method=method,
            false_alarm_rate=rule.false_alarm_rate,
            threshold=threshold,
            region_threshold=region,
            promise=rule.promise,
            confidence=rule.confidence,
            review_rate=rule.review_rate,
            review_threshold=review,
            region_review_threshold=region_review,
        )

    def under(self, rule: Rule) -> Calibration:
        """The same good parts under another rule; raises as `from_scores` does."""
        return Calibration.from_scores(self.scores, rule, method=self.method, peaks=self.peaks)

    @property
    def rejected(self) -> int:
        """How many of the good parts behind it fail."""
        return sum(score > self.threshold for score in self.scores)

    @property
    def reviewed(self) -> int:
        """How many of the good parts behind it go to review."""
        return sum(self.verdict(score) == "review" for score in self.scores)

    def p_value(self, score: float) -> float | None:
        """How often a good part would look at least this bad; None where no scores were kept."""
        # As the thresholds are, so that failing and a p-value of at most the rate are one.
        return p_value(score, rounded_up(self.scores)) if self.scores else None

    def verdict(self, score: float) -> Verdict:
        """`fail` above the threshold, `review` below it but above the review threshold."""
        if not score <= self.threshold:  # so that NaN fails
            return "fail"
        if self.review_threshold is not None and score > self.review_threshold:
            return "review"
        return "pass"

    def region_level(self, score: float) -> float:
        """What a part's regions lie above: in review the lower level, so that it shows where."""
        if self.region_review_threshold is not None and self.verdict(score) == "review":
            return self.region_review_threshold
        return self.region_threshold


def _sorted(values: npt.ArrayLike) -> tuple[float, ...]:
    return tuple(np.sort(np.asarray(values, dtype=np.float64).ravel()).tolist())


def _counterpart(value: float, scores: Sequence[float], peaks: Sequence[float]) -> float:
    """Where among the maps' maxima a score set by hand stands: at the same share of good parts.

    Beyond the scores it is as far away in proportion; where they are the maxima it is `value`.
    """
    if scores == peaks:
        return value
    if scores[0] <= value <= scores[-1]:
        return float(np.interp(value, scores, peaks))
    near = 0 if value < scores[0] else -1
    return peaks[near] * value / scores[near] if scores[near] > 0 else peaks[near]
