"""Tolerance limits: ranks and numbers of parts against exact fractions, and clear refusals."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from blemish.errors import CalibrationError, ParameterError
from blemish.verdict import (
    check_tolerance,
    least_rate,
    tolerance_parts,
    tolerance_rank,
    tolerance_rate,
    tolerance_threshold,
)


def exact_rank(parts: int, rate: str, confidence: str) -> int:
    """The smallest k with P(Binomial(parts, rate) <= parts - k) <= 1 - confidence; in fractions."""
    above, least = Fraction(rate), 1 - Fraction(confidence)
    total = Fraction(0)
    for count in range(parts + 1):
        total += math.comb(parts, count) * above**count * (1 - above) ** (parts - count)
        if total > least:
            return parts - count + 1
    raise AssertionError("the whole distribution is more than 1 - confidence")


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"),
    [
        (0.01, 0.90, 230), (0.01, 0.95, 299), (0.01, 0.99, 459),
        (0.05, 0.90, 45), (0.05, 0.95, 59), (0.05, 0.99, 90),
        (0.5, 0.75, 2), (0.1, 0.19, 2), (0.5, 0.1, 1),
    ],
)  # fmt: skip
def test_parts_needed(rate: float, confidence: float, needed: int) -> None:
    """The table in the docs: one part fewer is refused with the number, so many are enough."""
    assert tolerance_parts(rate, confidence) == needed
    assert tolerance_threshold(np.arange(needed), rate, confidence) == needed - 1
    with pytest.raises(CalibrationError, match=rf"needs {needed}\.") as caught:
        tolerance_threshold(np.zeros(needed - 1), rate, confidence)
    assert caught.value.needed == needed


def test_299_parts_for_one_percent_with_95_percent() -> None:
    """The refusal says what was asked, what there is and what it takes, in one sentence."""
    with pytest.raises(CalibrationError) as caught:
        check_tolerance(298, 0.01, 0.95)
    assert str(caught.value).startswith(
        "A false-alarm rate of 0.01 cannot be promised with confidence 0.95 from 298 good parts: "
        "it needs 299."
    )
    check_tolerance(299, 0.01, 0.95)


@pytest.mark.parametrize(
    ("rate", "confidence"),
    [("0.01", "0.95"), ("0.05", "0.9"), ("0.1", "0.19"), ("0.25", "0.5"), ("0.9", "0.99")],
)
def test_the_rank_is_the_exact_one(rate: str, confidence: str) -> None:
    """For every number of parts the rank is that of exact fractions: none higher, none lower."""
    for parts in [*range(1, 130), 298, 299, 300, 472, 473, 474, 700]:
        expected = exact_rank(parts, rate, confidence)
        assert tolerance_rank(parts, float(rate), float(confidence)) == expected, parts
        assert (expected <= parts) == (parts >= tolerance_parts(float(rate), float(confidence)))


def test_more_parts_use_the_best_order_statistic() -> None:
    """473 parts let the second largest score be the limit where 472 need the largest."""
    scores = np.random.default_rng(0).permutation(np.arange(1, 474))
    assert tolerance_threshold(scores[scores <= 472], 0.01, 0.95) == 472
    assert tolerance_threshold(scores, 0.01, 0.95) == 472
    assert tolerance_rank(100_000, 0.01, 0.95) == pytest.approx(99_000 + 53, abs=3)
    assert tolerance_rank(100_000, 0.5, 0.95) == pytest.approx(50_000 + 260, abs=3)


def test_a_higher_rate_or_a_lower_confidence_never_raises_the_limit() -> None:
    """So a review threshold never lies above the threshold of the same promise."""
    rates = np.linspace(0.01, 0.9, 40)
    ranks = [tolerance_rank(400, rate, 0.95) for rate in rates]
    assert ranks == sorted(ranks, reverse=True)
    ranks = [tolerance_rank(400, 0.05, confidence) for confidence in (0.5, 0.8, 0.9, 0.99)]
    assert ranks == sorted(ranks)


def test_the_rate_a_refusal_suggests_is_accepted() -> None:
    """Whoever follows the message's advice, digit by digit, is not refused again."""
    for parts in range(1, 300):
        with pytest.raises(CalibrationError) as caught:
            check_tolerance(parts, 1e-6, 0.95)
        said = re.search(r"ask for a rate of ([0-9.]+) or more", str(caught.value))
        assert said is not None
        check_tolerance(parts, float(said.group(1)), 0.95)
        assert float(said.group(1)) == pytest.approx(tolerance_rate(parts, 0.95), abs=1.1e-5)


@pytest.mark.parametrize("parts", [1, 2, 7, 59, 299, 12345])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_least_rate_is_the_edge(parts: int, confidence: float) -> None:
    """The smallest rate is promised, and one a little smaller is not."""
    rate = least_rate(parts, confidence)
    check_tolerance(parts, rate, confidence)
    assert tolerance_rank(parts, rate, confidence) == parts
    with pytest.raises(CalibrationError):
        check_tolerance(parts, rate * 0.999, confidence)


def test_no_part_at_all_promises_nothing() -> None:
    """Without any good part there is no rate to suggest, only a number to show."""
    with pytest.raises(CalibrationError, match="needs 299") as caught:
        check_tolerance(0, 0.01, 0.95)
    assert "or ask for" not in str(caught.value)


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan")])
def test_rate_and_confidence_are_probabilities(value: float) -> None:
    """Values outside (0, 1), and NaN, are errors of the parameter that has them."""
    with pytest.raises(ParameterError, match="the false-alarm rate is"):
        tolerance_parts(value, 0.95)
    with pytest.raises(ParameterError, match="the confidence is"):
        tolerance_parts(0.01, value)
