"""Split-conformal thresholds by hand, and refusals; test_promises.py holds what they promise."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import CalibrationError, ParameterError
from blemish.verdict import (
    check_parts,
    conformal_threshold,
    p_value,
    parts_needed,
    smallest_rate,
)


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (99, 0.01, 99), (9, 0.5, 5), (1, 0.5, 1)],
)
def test_threshold_by_hand(count: int, rate: float, rank: int) -> None:
    """The threshold is the k-th smallest score with k = ceil((n + 1)(1 - a))."""
    scores = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    assert conformal_threshold(scores, rate) == rank


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1), (0.03, 33), (0.001, 999)]
)
def test_too_few_parts_are_refused_with_the_number_needed(rate: float, needed: int) -> None:
    """One part fewer than needed is refused, and the error carries the number; enough pass."""
    assert parts_needed(rate) == needed
    with pytest.raises(CalibrationError, match=rf"needs {needed}\.") as caught:
        conformal_threshold(np.zeros(needed - 1), rate)
    assert caught.value.needed == needed
    assert conformal_threshold(np.zeros(needed), rate) == 0


def test_the_rate_a_refusal_suggests_is_accepted() -> None:
    """Whoever follows the message's advice, digit by digit, is not refused again."""
    for count in range(1, 400):
        with pytest.raises(CalibrationError) as caught:
            check_parts(count, 1e-6)
        said = re.search(r"ask for ([0-9.]+) or more", str(caught.value))
        assert said is not None
        check_parts(count, float(said.group(1)))
        assert float(said.group(1)) == pytest.approx(smallest_rate(count), rel=0.01)


@pytest.mark.parametrize("count", [1, 7, 19, 99, 12345])
def test_smallest_rate_is_the_edge(count: int) -> None:
    """The smallest rate is promised, and one a little smaller is not."""
    check_parts(count, smallest_rate(count))
    with pytest.raises(CalibrationError):
        check_parts(count, smallest_rate(count) * 0.999)


def test_no_part_at_all_promises_nothing() -> None:
    """Without any good part there is no rate to suggest, only a number to show."""
    with pytest.raises(CalibrationError, match="needs 99") as caught:
        check_parts(0, 0.01)
    assert "or ask for" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
def test_a_rate_is_a_probability(rate: float) -> None:
    """Rates outside (0, 1), and NaN, are errors of the parameter."""
    with pytest.raises(ParameterError, match="false-alarm rate"):
        conformal_threshold(np.zeros(1000), rate)


def test_p_value_by_hand() -> None:
    """p = (1 + how many good scores are at least as bad) / (n + 1); ties count."""
    scores = [1.0, 2.0, 2.0, 3.0]
    assert p_value(0.5, scores) == 1.0
    assert p_value(2.0, scores) == 4 / 5
    assert p_value(2.5, scores) == 2 / 5
    assert p_value(9.0, scores) == 1 / 5


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.floats(0.004, 0.996),
    st.integers(-1, 6),
)
def test_verdict_and_p_value_agree(scores: list[int], rate: float, score: int) -> None:
    """A part lies above the threshold exactly when its p-value is at most the rate, ties too."""
    if len(scores) < parts_needed(rate):
        with pytest.raises(CalibrationError):
            conformal_threshold(scores, rate)
        return
    fails = score > conformal_threshold(scores, rate)
    assert fails == (p_value(score, scores) <= rate * (1 + 1e-12))
