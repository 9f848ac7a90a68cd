"""The promised rate holds where distances are normalised by the very parts that calibrate.

Parts are drawn, matched with each other (nearest template, itself left out), normalised and
scored as HETMM does; then new ones are judged. If a part were normalised by its own distance too,
its score would be too small and more good parts would be rejected than promised.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blemish.detectors.hetmm.normalisation import Normalisation, tail
from blemish.verdict import conformal_threshold, smallest_rate

DRAWS = 1000
NEW = 4  # good parts that are judged a draw
SIDE, CHANNELS = 5, 4  # of a part's map, and of its vectors

Floats = npt.NDArray[np.float32]


def parts(generator: np.random.Generator, count: int) -> Floats:
    """Unit vectors [P, count, C]: parts that vary more at some places than at others."""
    spread = np.linspace(0.05, 1.0, SIDE * SIDE)[:, None, None]
    values = 1 + spread * generator.standard_normal((SIDE * SIDE, count, CHANNELS))
    unit = values / np.linalg.norm(values, axis=2, keepdims=True)
    return unit.astype(np.float32)


def nearest(queries: Floats, templates: Floats, *, own: bool) -> Floats:
    """Distances [count, 1, h, w] to the nearest template; `own`: the queries are the templates."""
    cosines = queries @ templates.transpose(0, 2, 1)
    if own:
        diagonal = np.arange(cosines.shape[1])
        cosines[:, diagonal, diagonal] = -np.inf
    return (1 - cosines.max(axis=2)).T.reshape(-1, 1, SIDE, SIDE)


def rejected(good: int, measured: int, rate: float, *, jackknife: bool = True) -> float:
    """The share of new good parts that is rejected, over all draws."""
    count = 0
    for draw in range(DRAWS):
        generator = np.random.default_rng((7, draw))
        templates = parts(generator, good)
        alone = nearest(templates, templates, own=True)
        chosen = np.linspace(0, good - 1, min(measured, good)).round().astype(int).tolist()
        normal = Normalisation.from_maps([alone[at] for at in chosen], chosen)
        assert normal is not None
        scores = [
            tail(normal.applied(maps, at if jackknife else -1).ravel())
            for at, maps in enumerate(alone)
        ]
        threshold = conformal_threshold(scores, rate)
        for maps in nearest(parts(generator, NEW), templates, own=False):
            count += tail(normal.applied(maps).ravel()) > threshold
    return count / (DRAWS * NEW)


@pytest.mark.parametrize(("good", "measured"), [(20, 48), (60, 48), (200, 48), (20, 10)])
def test_the_promised_rate_holds(good: int, measured: int) -> None:
    """Of new good parts no more are rejected than promised, within binomial bounds."""
    rate = max(0.05, smallest_rate(good))
    found = rejected(good, measured, rate)
    # New parts of a draw share its threshold: at worst as if each draw had judged one.
    slack = 3.5 * np.sqrt(rate * (1 - rate) / DRAWS)
    assert found <= rate + slack
    # Nor is it kept by rejecting nearly nothing: ranks are whole, 20 parts allow 1/21.
    assert found >= 0.5 * rate - slack


def test_a_part_normalised_by_itself_would_break_it() -> None:
    """The check is able to fail: without the jackknife more good parts are rejected."""
    honest = rejected(20, 48, 0.1)
    assert rejected(20, 48, 0.1, jackknife=False) > honest
