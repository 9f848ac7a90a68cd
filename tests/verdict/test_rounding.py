"""A good part is judged alike on every machine: the last bits of its score decide nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.verdict import Calibration, Rule, judge, rounded_up

SCORES = st.floats(-1e6, 1e6, allow_subnormal=False)
RULES = [
    Rule(0.05), Rule(0.05, review_rate=0.2), Rule(0.1, 0.9, review_rate=0.3),
]  # fmt: skip


@given(st.lists(SCORES, min_size=2, max_size=30))
def test_the_allowance_keeps_the_order(scores: list[float]) -> None:
    """What is rounded up is larger than it was, and in the order it was."""
    ordered = np.sort(scores)
    allowed = rounded_up(ordered)
    assert (allowed > ordered).all()
    assert (np.diff(allowed) >= 0).all()


@pytest.mark.parametrize("size", [1e-7, 0.003, 0.4, 50.0])
@pytest.mark.parametrize("rule", RULES)
def test_a_good_part_is_not_rejected_for_the_order_of_a_sum(rule: Rule, size: float) -> None:
    """A part whose score set the threshold passes it on a machine that adds otherwise.

    Scores move by up to 1e-6 of their size and distances by 7e-7 (docs/numerics.md).
    """
    scores = size * np.linspace(0.1, 1, 60)
    made = Calibration.from_scores(scores, rule, method="held-out", peaks=scores)
    review = made.threshold if made.review_threshold is None else made.review_threshold
    keeps, passes = (rounded_up(scores) <= limit for limit in (made.threshold, review))
    assert passes.any()
    assert not keeps.all()
    for there in (scores * (1 + 1e-6), scores * (1 - 1e-6), scores + 7e-7, scores - 7e-7):
        verdicts = np.array([judge(score, made).verdict for score in there])
        assert (verdicts[keeps] != "fail").all()
        assert (verdicts[passes] == "pass").all()


@pytest.mark.parametrize("rule", RULES[:2])
def test_failing_and_its_p_value_stay_one(rule: Rule) -> None:
    """Also within the allowance, where neither may jump before the other."""
    scores = np.linspace(0.2, 0.9, 39)
    made = Calibration.from_scores(scores, rule, method="held-out", peaks=scores)
    rate = rule.false_alarm_rate
    assert rate is not None
    for score in made.threshold + np.linspace(-3e-5, 3e-5, 101):
        judged = judge(score, made)
        assert judged.p_value is not None
        assert (judged.verdict == "fail") == (judged.p_value <= rate) == (score > made.threshold)


def test_a_threshold_by_hand_is_the_number_given() -> None:
    """Nobody's number is changed."""
    made = Calibration.from_scores([0.1, 0.3], Rule(threshold=0.3), method="held-out", peaks=[1, 2])
    assert made.threshold == 0.3
