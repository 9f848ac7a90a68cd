"""Rules: what may be asked of the thresholds together, and what contradicts itself."""

from __future__ import annotations

import math
from typing import Any

import pytest

from blemish.errors import CalibrationError, ParameterError
from blemish.verdict import Rule, least_rate


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give a false-alarm rate or a threshold"),
        ({"false_alarm_rate": 0.1, "threshold": 1.0}, "give a false-alarm rate or a threshold"),
        ({"threshold": 1.0, "confidence": 0.95}, "goes with neither a confidence nor"),
        ({"threshold": 1.0, "review_rate": 0.1}, "goes with neither a confidence nor"),
        ({"false_alarm_rate": 1.0}, "false-alarm rate is 1; it must lie between 0 and 1"),
        ({"false_alarm_rate": 0.1, "confidence": 95}, "confidence is 95; it must lie between"),
        ({"false_alarm_rate": 0.1, "review_rate": 0}, "review rate is 0; it must lie between"),
        ({"false_alarm_rate": 0.1, "review_rate": 0.05}, "review rate 0.05 is below the false"),
        ({"false_alarm_rate": 0.1, "review_rate": 0.2, "review_threshold": 1}, "not both"),
        ({"threshold": 1.0, "review_threshold": 1.5}, "review threshold 1.5 lies above the"),
        ({"threshold": math.nan}, "the threshold is nan; give a number"),
        ({"threshold": 1.0, "review_threshold": -math.inf}, "the review threshold is -inf"),
    ],
)
def test_contradictions_are_refused_in_one_sentence(asked: dict[str, Any], said: str) -> None:
    """What cannot hold together is an error of the parameter, which says what to give."""
    with pytest.raises(ParameterError, match=said) as caught:
        Rule(**asked)
    assert "\n" not in str(caught.value)


def test_the_promise_of_each_kind() -> None:
    """A rate is promised on average or with confidence; a threshold by hand promises nothing."""
    assert Rule(0.01).promise == "average"
    assert Rule(0.01, 0.95, review_rate=0.01).promise == "confidence"
    assert Rule(threshold=-2.0, review_threshold=-2.0).promise == "none"


def test_parts_needed_and_least_rates() -> None:
    """Each kind has its own number of parts, which is where its check begins to pass."""
    for rule, needed in ((Rule(0.01), 99), (Rule(0.01, 0.95), 299), (Rule(threshold=1.0), 1)):
        assert rule.needed == needed
        rule.check(needed)
        with pytest.raises(CalibrationError) as caught:
            rule.check(needed - 1)
        assert caught.value.needed == needed
    assert least_rate(99) == 0.01
    assert 1 - least_rate(299, 0.95) == pytest.approx(0.05 ** (1 / 299))


def test_another_rate_keeps_the_rest_of_a_promise() -> None:
    """Confidence and review rate stay; a threshold set by hand gives way to the new rate."""
    assert Rule(0.01, 0.95, review_rate=0.1).at(0.05) == Rule(0.05, 0.95, review_rate=0.1)
    assert Rule(threshold=3.0, review_threshold=2.0).at(0.05) == Rule(0.05, review_threshold=2.0)
    with pytest.raises(ParameterError, match="is below"):
        Rule(0.01, review_rate=0.1).at(0.2)
