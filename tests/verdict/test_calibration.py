"""Calibration: what it keeps, the verdicts it gives, and that doubt never passes a part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import CalibrationError
from blemish.verdict import Calibration, judge

SCORES = np.random.default_rng(0).permutation(39).astype(np.float32)


def calibrated(rate: float = 0.05) -> Calibration:
    """39 good parts with the scores 0 to 38, whose maps peak one higher."""
    return Calibration.from_scores(SCORES, rate, method="held-out", peaks=SCORES + 1)


def test_it_keeps_sorted_scores_and_both_thresholds() -> None:
    """Scores and peaks are kept in order, and each has its own threshold."""
    kept = calibrated()
    assert kept.scores == tuple(range(39))
    assert kept.peaks == tuple(range(1, 40))
    assert (kept.threshold, kept.region_threshold) == (37, 38)
    assert (kept.method, kept.false_alarm_rate) == ("held-out", 0.05)


def test_another_rate_uses_the_same_parts() -> None:
    """Asking again at another rate gives what calibrating at that rate would have."""
    assert calibrated(0.05).at_rate(0.5) == calibrated(0.5)
    with pytest.raises(CalibrationError, match="from 39 good parts"):
        calibrated().at_rate(0.01)


@pytest.mark.parametrize(
    ("score", "verdict"), [(-5, "pass"), (37, "pass"), (37.001, "fail"), (np.inf, "fail")]
)
def test_verdict(score: float, verdict: str) -> None:
    """A part fails above the threshold and passes at it."""
    assert calibrated().verdict(score) == verdict


def test_a_score_that_is_no_number_fails() -> None:
    """Should a score ever be NaN, the part is not passed."""
    p_value, _, verdict = judge(float("nan"), calibrated())
    assert verdict == "fail"
    assert p_value is not None
    assert p_value <= 0.05


@settings(deadline=None)
@given(st.floats(-10, 60), st.floats(0.03, 0.97))
def test_judge_agrees_with_itself(score: float, rate: float) -> None:
    """`fail` and a p-value of at most the rate are one statement."""
    p_value, threshold, verdict = judge(score, calibrated(rate))
    assert threshold is not None
    assert p_value is not None
    assert (verdict == "fail") == (p_value <= rate) == (score > threshold)


def test_without_calibration_a_person_decides() -> None:
    """Nothing is promised before calibration: no p-value, no threshold, `review`."""
    assert judge(3.0, None) == (None, None, "review")
