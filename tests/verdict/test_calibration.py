"""Calibration: what it keeps, the verdicts it gives, and that doubt never passes a part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import CalibrationError, ParameterError
from blemish.verdict import Calibration, Rule, judge, rounded_up

SCORES = np.random.default_rng(0).permutation(39).astype(np.float32)


def calibrated(
    rate: float | None = 0.05, confidence: float | None = None, **asked: float
) -> Calibration:
    """39 good parts with the scores 0 to 38, whose maps peak one higher."""
    rule = Rule(rate, confidence, **asked)
    return Calibration.from_scores(SCORES, rule, method="held-out", peaks=SCORES + 1)


def limits(*scores: float) -> tuple[float, ...]:
    """The thresholds that these scores of good parts set."""
    return tuple(rounded_up(scores).tolist())


def test_it_keeps_sorted_scores_and_both_thresholds() -> None:
    """Scores and peaks are kept in order, and each has its own threshold."""
    kept = calibrated()
    assert kept.scores == tuple(range(39))
    assert kept.peaks == tuple(range(1, 40))
    assert (kept.threshold, kept.region_threshold) == limits(37, 38)
    assert (kept.method, kept.false_alarm_rate, kept.promise) == ("held-out", 0.05, "average")
    assert (kept.review_threshold, kept.region_review_threshold) == (None, None)


def test_another_rule_uses_the_same_parts() -> None:
    """Asking again by another rule gives what calibrating by that rule would have."""
    assert calibrated(0.05).under(Rule(0.5)) == calibrated(0.5)
    assert calibrated(0.05).under(Rule(threshold=9)) == calibrated(None, threshold=9)
    by_hand = calibrated(None, threshold=9)
    assert by_hand.under(Rule(0.05, review_rate=0.5)) == calibrated(0.05, review_rate=0.5)
    with pytest.raises(CalibrationError, match="from 39 good parts"):
        calibrated().under(Rule(0.01))
    with pytest.raises(CalibrationError, match="it needs 59"):
        calibrated().under(Rule(0.05, 0.95))


@pytest.mark.parametrize(
    ("score", "verdict"), [(-5, "pass"), (37, "pass"), (37.001, "fail"), (np.inf, "fail")]
)
def test_verdict(score: float, verdict: str) -> None:
    """A part fails above the threshold and passes at it."""
    assert calibrated().verdict(score) == verdict


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(31, "pass"), (31.001, "review"), (37, "review"), (37.001, "fail"), (np.nan, "fail")],
)
def test_three_way_verdict(score: float, verdict: str) -> None:
    """pass <= review threshold < review <= threshold < fail, given as rates or as numbers."""
    by_rate = calibrated(0.05, review_rate=0.2)
    assert (by_rate.review_threshold, by_rate.region_review_threshold) == limits(31, 32)
    for one in (
        by_rate,
        calibrated(0.05, review_threshold=31),
        calibrated(None, threshold=37, review_threshold=31),
    ):
        assert one.verdict(score) == verdict
        assert (one.rejected, one.reviewed) == (1, 6)


def test_regions_of_a_part_in_review_lie_above_the_lower_level() -> None:
    """A part that fails shows what is beyond the threshold, one in review what put it there."""
    kept = calibrated(0.05, review_rate=0.2)
    assert tuple(kept.region_level(score) for score in (10, 35, 38)) == limits(38, 32, 38)
    assert (calibrated().region_level(35),) == limits(38)


def test_equal_rates_leave_nothing_to_review() -> None:
    """With a review rate that is the false-alarm rate the thresholds are one."""
    kept = calibrated(0.05, review_rate=0.05)
    assert kept.review_threshold == kept.threshold
    assert {kept.verdict(score) for score in np.linspace(0, 50, 400)} == {"pass", "fail"}


def test_with_confidence_the_limit_is_higher() -> None:
    """The promise with confidence is the stricter one, for scores and for regions."""
    kept = calibrated(0.2, 0.95, review_rate=0.3)
    # P(Binomial(39, 0.2) <= 3) is 0.033 and of <= 4 it is 0.088, so 3 of the parts may exceed it.
    assert (kept.threshold, kept.region_threshold) == limits(35, 36)
    assert kept.review_threshold is not None
    assert calibrated(0.2).threshold < kept.threshold
    assert calibrated(0.3).threshold < kept.review_threshold < kept.threshold
    assert (kept.promise, kept.confidence) == ("confidence", 0.95)


def test_a_review_threshold_above_the_promised_one_is_refused() -> None:
    """A number that the good parts' threshold lies below would let failed parts pass review."""
    with pytest.raises(ParameterError, match=r"threshold 37\.5 lies above the threshold 37"):
        calibrated(0.05, review_threshold=37.5)


def test_by_hand_nothing_is_promised_and_scores_stay() -> None:
    """The threshold is the number given; p-values come from the scores as before."""
    kept = calibrated(None, threshold=20.5, review_threshold=10.25)
    assert (kept.promise, kept.false_alarm_rate) == ("none", None)
    assert (kept.threshold, kept.review_threshold) == (20.5, 10.25)
    assert (kept.region_threshold, kept.region_review_threshold) == (21.5, 11.25)
    assert (kept.rejected, kept.reviewed) == (18, 10)
    assert kept.p_value(30) == calibrated().p_value(30) == 10 / 40


def test_by_hand_regions_follow_the_scores_beyond_them_too() -> None:
    """Where scores are the maps' maxima the levels are equal; else they are in proportion."""
    same = Calibration.from_scores(
        SCORES, Rule(threshold=0.1 + 0.2), method="held-out", peaks=SCORES
    )
    assert same.region_threshold == same.threshold
    spread = np.array([1.0, 2.0, 4.0])  # such as standard deviations of maps with these peaks
    levels = []
    for threshold in (0.5, 1.0, 3.0, 4.0, 8.0):
        rule = Rule(threshold=threshold)
        made = Calibration.from_scores(spread, rule, method="held-out", peaks=[5.0, 8.0, 20.0])
        levels.append(made.region_threshold)
    assert levels == [2.5, 5.0, 14.0, 20.0, 40.0]


def test_without_scores_there_is_no_p_value() -> None:
    """A threshold set by hand judges also where no scores of good parts were kept."""
    bare = Calibration.from_scores([], Rule(threshold=2.0), method="held-out", peaks=[])
    assert judge(3.0, bare)[:2] == (None, 2.0)
    assert (bare.verdict(3.0), bare.rejected, bare.region_threshold) == ("fail", 0, 2.0)


def test_a_score_that_is_no_number_fails() -> None:
    """Should a score ever be NaN, the part is not passed."""
    judged = judge(float("nan"), calibrated())
    assert judged.verdict == "fail"
    assert judged.p_value is not None
    assert judged.p_value <= 0.05


@settings(deadline=None)
@given(st.floats(-10, 60), st.floats(0.03, 0.97))
def test_judge_agrees_with_itself(score: float, rate: float) -> None:
    """`fail` and a p-value of at most the rate are one statement; so is not passing."""
    judged = judge(score, calibrated(rate, review_rate=min(0.99, 1.5 * rate)))
    assert judged.threshold is not None
    assert judged.review_threshold is not None
    assert judged.p_value is not None
    assert (judged.verdict == "fail") == (judged.p_value <= rate) == (score > judged.threshold)
    not_passed = judged.p_value <= min(0.99, 1.5 * rate)
    assert (judged.verdict != "pass") == not_passed == (score > judged.review_threshold)


def test_without_calibration_a_person_decides() -> None:
    """Nothing is promised before calibration: no p-value, no threshold, `review`, and why."""
    assert judge(3.0, None) == (None, None, None, "review", "not calibrated")


@pytest.mark.parametrize("score", [-1.0, 35.0, 99.0, float("nan")])
def test_a_part_that_was_not_seen_rightly_is_never_passed_or_failed(score: float) -> None:
    """With a problem of the view the verdict is review, for that reason, whatever the score."""
    for calibration in (calibrated(review_rate=0.2), None):
        judged = judge(score, calibration, "could not be aligned")
        assert (judged.verdict, judged.reason) == ("review", "could not be aligned")


@pytest.mark.parametrize(
    ("score", "reason"), [(10, None), (35, "above the review threshold"), (38, None)]
)
def test_only_review_has_a_reason(score: float, reason: str | None) -> None:
    """What passes or fails is explained by its threshold alone."""
    assert judge(score, calibrated(review_rate=0.2)).reason == reason
