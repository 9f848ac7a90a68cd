"""What is found of synthetic defects: the curve, the places, the words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from blemish.verdict.detection import CELLS, SURE, Detection, Trial


def summed(trials: list[Trial], side: int = 256) -> Detection:
    """The summary of these trials."""
    return Detection.from_trials(trials, side=side, parts=9, threshold=1.5, version=2)


def drawn(count: int, half: float, seed: int = 0) -> list[Trial]:
    """Defects that are found with probability 1 / (1 + (half / size)^4)."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        size = float(np.exp(generator.uniform(np.log(3), np.log(64))))
        chance = 1 / (1 + (half / size) ** 4)
        at = (float(generator.uniform(0, 256)), float(generator.uniform(0, 256)))
        contrast = float(generator.uniform(0.05, 0.5))
        found.append(Trial("cut", size, contrast, at, bool(generator.random() < chance)))
    return found


def test_the_smallest_size_is_where_nine_of_ten_are_found() -> None:
    """The curve gives back the size that the trials were drawn by."""
    half = 12.0
    wanted = half * (SURE / (1 - SURE)) ** 0.25
    found = summed(drawn(4000, half)).smallest["typical"]
    assert found == pytest.approx(wanted, rel=0.1)


def test_contrast_tells() -> None:
    """Faint defects must be larger."""
    generator = np.random.default_rng(1)
    trials = []
    for _ in range(3000):
        size, contrast = float(generator.uniform(3, 64)), float(generator.uniform(0.02, 0.6))
        trials.append(Trial("spot", size, contrast, (9, 9), size * contrast > 4))
    smallest = summed(trials).smallest
    faint, typical, strong = (smallest[name] for name in ("faint", "typical", "strong"))
    assert strong is not None
    assert typical is not None
    assert strong < typical
    assert faint is None or faint > typical


@pytest.mark.parametrize("found", [True, False])
def test_all_found_and_none_found_have_their_answers(found: bool) -> None:
    """Trials that nothing tells apart break no curve."""
    trials = [Trial("cut", float(size), 0.2, (1.0, 2.0), found) for size in np.geomspace(3, 64, 40)]
    told = summed(trials)
    assert told.smallest["typical"] == (pytest.approx(3.0, rel=0.01) if found else None)
    assert told.passed == float(not found)
    assert told.poor is not found
    assert ("not even" in told.summary[0]) is not found


def test_bands_and_kinds_count_every_trial_once() -> None:
    """Nothing is lost or counted twice, the largest defect included."""
    trials = drawn(500, 10)
    told = summed(trials)
    assert sum(band.trials for band in told.bands) == 500
    assert sum(band.passed for band in told.bands) == sum(not trial.found for trial in trials)
    assert told.kinds == {"cut": (500, sum(not trial.found for trial in trials))}
    shares = [band.passed / band.trials for band in told.bands]
    assert shares[0] > shares[-1]


def test_a_blind_corner_shows() -> None:
    """Places where nothing is found are told from the others."""
    generator = np.random.default_rng(2)
    trials = []
    for _ in range(600):
        x, y = generator.uniform(0, 256, 2)
        trials.append(Trial("cut", 20.0 + x / 256, 0.3, (x, y), not (x < 64 and y > 192)))
    places = np.array(summed(trials).places)
    assert places.shape == (CELLS, CELLS)
    assert places[-1, 0] < 0.3
    assert places[0, -1] > 0.95


def test_it_survives_json() -> None:
    """Its values are plain."""
    told = summed(drawn(60, 10)).to_dict()
    assert json.loads(json.dumps(told))["smallest"] == told["smallest"]
