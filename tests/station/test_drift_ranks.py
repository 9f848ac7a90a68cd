"""The tests by ranks: SciPy's values, and the false-alarm rate that a look promises."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from blemish.station.drift.measures import Reference, References, Window, look
from blemish.station.drift.ranks import (
    kolmogorov_smirnov,
    mann_whitney,
    rejected,
    uniformity,
)
from blemish.verdict import p_value

Floats = npt.NDArray[np.float64]
DRAWS = 1000


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 7), (20, 20), (50, 30), (37, 200), (200, 61)])
@pytest.mark.parametrize("moved", [0.0, 0.5, 1.5, 5.0])
def test_the_distance_is_scipys_exact_one(m: int, n: int, moved: float) -> None:
    """Statistic and exact p-value, also far in the tail, and which side it is on."""
    rng = np.random.default_rng([m, n])
    window, reference = rng.normal(moved, 1, m), rng.normal(0, 1, n)
    found = kolmogorov_smirnov(window, reference)
    expected = stats.ks_2samp(window, reference, method="exact")
    assert found.largest == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-11)
    assert found.below == pytest.approx(
        stats.ks_2samp(window, reference, alternative="greater").statistic, abs=1e-12
    )
    assert found.above == pytest.approx(
        stats.ks_2samp(window, reference, alternative="less").statistic, abs=1e-12
    )


def test_large_windows_use_the_limit() -> None:
    """Where counting would take seconds; SciPy's limit is as close as two limits are."""
    rng = np.random.default_rng(0)
    window, reference = rng.normal(0.05, 1, 5000), rng.normal(0, 1, 1000)
    expected = stats.ks_2samp(window, reference, method="asymp")
    assert kolmogorov_smirnov(window, reference).p_value == pytest.approx(expected.pvalue, rel=0.05)


@pytest.mark.parametrize(("m", "n"), [(10, 10), (20, 200), (200, 60)])
@pytest.mark.parametrize("digits", [1, 9])
@pytest.mark.parametrize("moved", [0.0, -0.4, 2.0])
def test_the_shift_is_scipys_with_ties(m: int, n: int, digits: int, moved: float) -> None:
    """Rounded values are tied."""
    rng = np.random.default_rng([m, n])
    window = np.round(rng.normal(moved, 1, m), digits)
    reference = np.round(rng.normal(0, 1, n), digits)
    found = mann_whitney(window, reference)
    expected = stats.mannwhitneyu(window, reference, method="asymptotic")
    assert found.superiority * m * n == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_values_that_are_all_the_same_say_nothing() -> None:
    """Neither test divides by zero."""
    same = np.ones(12)
    assert mann_whitney(same, same) == mann_whitney(same[:10], same)
    assert mann_whitney(same, same).p_value == 1.0
    assert kolmogorov_smirnov(same, same).p_value == 1.0


def test_holm_is_scipys_family() -> None:
    """Steps down from the smallest, and stops at the first that is not small enough."""
    assert rejected([0.01, 0.04, 0.03], 0.05) == [True, False, False]
    assert rejected([0.01, 0.02, 0.04], 0.05) == [True, True, True]
    assert rejected([0.02, 0.03, 0.04], 0.05) == [False, False, False]
    assert rejected([], 0.05) == []


# The promise -------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], Floats]
KINDS: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "ties": lambda rng, size: np.floor(8 * rng.random(size)),
}


def drawn(
    rng: np.random.Generator, draw: Draw, parts: int, window: int
) -> tuple[Window, References]:
    """Parts that are exchangeable with those behind the reference, with all five measures."""
    calibration = draw(rng, parts)
    scores = draw(rng, window)
    values = {"score": scores, "p_value": np.array([p_value(one, calibration) for one in scores])}
    references = {"score": Reference(calibration)}
    for measure in ("brightness", "sharpness", "residual"):
        values[measure] = draw(rng, window)
        references[measure] = Reference(draw(rng, parts))
    ids = tuple(map(str, range(window)))
    return Window(ids, values, np.ones(window, np.bool_)), References(references, calibration)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("parts", "window", "rate"), [(20, 50, 0.05), (60, 60, 0.05), (99, 40, 0.2)]
)
def test_a_look_at_exchangeable_parts_alarms_no_more_often_than_promised(
    kind: str, parts: int, window: int, rate: float
) -> None:
    """Over all five measures together; at most the rate and three standard errors in 1,000."""
    rng = np.random.default_rng([parts, window])
    alarms = 0
    for _ in range(DRAWS):
        findings = look(*drawn(rng, KINDS[kind], parts, window))
        assert len(findings) == 5
        alarms += any(rejected([finding.p_value for finding in findings], rate))
    assert alarms / DRAWS <= rate + 3 * math.sqrt(rate * (1 - rate) / DRAWS)
    if kind != "ties":
        assert alarms / DRAWS > rate / 4  # and not because nothing is ever seen


def test_uniformity_holds_though_p_values_share_their_calibration() -> None:
    """A test for independent uniform numbers would alarm in every third draw here."""
    rng = np.random.default_rng(5)
    parts, window, rate = 30, 200, 0.05
    ours = naive = 0
    for _ in range(DRAWS):
        calibration = np.sort(rng.random(parts))
        found = parts - np.searchsorted(calibration, rng.random(window))
        values = (1.0 + found) / (parts + 1)
        ours += uniformity(values, calibration).p_value <= rate
        smooth = values - rng.random(window) / (parts + 1)
        naive += stats.kstest(smooth, "uniform").pvalue <= rate
    assert ours / DRAWS <= rate + 3 * math.sqrt(rate * (1 - rate) / DRAWS)
    assert naive / DRAWS > 0.3


@pytest.mark.parametrize(
    ("measure", "change", "told"),
    [
        ("score", lambda values: values + 2, "score rose"),
        ("score", lambda values: values - 2, "score fell"),
        ("brightness", lambda values: values - 2, "brightness fell .*the lamp or the exposure"),
        ("sharpness", lambda values: values - 2, "sharpness fell .*dirty or out of focus"),
        ("residual", lambda values: values + 2, "residual rose .*the fixture"),
        ("brightness", lambda values: values * 6, "brightness varies otherwise: "),
    ],
)
def test_a_change_is_found_and_named(
    measure: str, change: Callable[[Floats], Floats], told: str
) -> None:
    """That measure, and of the others only the p-values, which go with the score."""
    window, references = drawn(np.random.default_rng(1), KINDS["normal"], 100, 100)
    moved = dict(window.values) | {measure: change(window.values[measure])}
    findings = look(Window(window.ids, moved, window.passed), references)
    away = rejected([finding.p_value for finding in findings], 0.001)
    found = [finding for finding, is_away in zip(findings, away, strict=True) if is_away]
    assert [finding.measure for finding in found] == [measure]
    assert found[0].large
    assert re.match(told, found[0].message)


def test_p_values_that_cluster_are_found_where_the_score_has_not_moved() -> None:
    """Half of them small and half large: the same middle, and no longer a promise."""
    window, references = drawn(np.random.default_rng(1), KINDS["normal"], 100, 100)
    spread = np.where(np.arange(100) % 2, 1.0, 1 / 101)
    moved = dict(window.values) | {"p_value": spread}
    findings = {
        one.measure: one for one in look(Window(window.ids, moved, window.passed), references)
    }
    assert findings["p_value"].p_value < 1e-6
    assert "too many small and large ones (50% of the last 100" in findings["p_value"].message
    assert findings["score"].p_value > 0.01


def test_a_burst_of_defects_is_no_drift_of_the_camera() -> None:
    """Of parts that fail the pictures do not count, until most of the parts do."""
    window, references = drawn(np.random.default_rng(2), KINDS["normal"], 100, 100)
    for share, expected in [(0.4, set()), (0.7, {"brightness"})]:
        bad = np.arange(100) < share * 100
        dark = np.where(bad, -9.0, window.values["brightness"])
        moved = dict(window.values) | {"brightness": dark}
        findings = look(Window(window.ids, moved, ~bad), references)
        away = rejected([finding.p_value for finding in findings], 0.001)
        assert {one.measure for one, gone in zip(findings, away, strict=True) if gone} == expected


def test_a_difference_that_nobody_need_see_is_no_alarm() -> None:
    """However many parts make it certain."""
    rng = np.random.default_rng(3)
    values = {"brightness": rng.normal(0.15, 1, 5000), "score": rng.normal(0.1, 1, 5000)}
    references = {name: Reference(rng.normal(size=5000)) for name in values}
    window = Window(tuple(map(str, range(5000))), values, np.ones(5000, np.bool_))
    findings = look(window, References(references))
    assert all(finding.p_value < 1e-4 and not finding.large for finding in findings)
