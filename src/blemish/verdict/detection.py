"""Probability of detection: how large a defect must be to be found, by contrast and by place.

Synthetic defects of known size are laid on good parts and judged at the calibrated threshold; found
or passed is modelled by a logistic curve over the logarithm of size, as hit/miss data are in
non-destructive testing (MIL-HDBK-1823A, appendix G, whose a90 is `smallest` here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

SURE = 0.9  # the probability of detection that is asked for
CONTRASTS = {"faint": 0.25, "typical": 0.5, "strong": 0.75}  # quantiles of the defects' contrast
CELLS = 8  # places each way that are told apart
POOR = 1 / 8  # of the view's side: a smallest defect above it is a warning
_BANDS = 5  # of sizes that are told apart
_PRIOR = 0.05  # of the curve's slopes: found and passed may be told apart without a fault
_STEPS = 50
_NEAR = 1 / 8  # of the view's side: how far a trial tells of a place

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """One synthetic defect: kind, size in pixels of the view, contrast, (x, y), whether found."""

    kind: str
    size: float
    contrast: float
    centre: tuple[float, float]
    found: bool


@dataclass(frozen=True)
class Band:
    """Defects of at least `low` and less than `high` pixels: how many, and how many passed."""

    low: float
    high: float
    trials: int
    passed: int


@dataclass(frozen=True)
class Detection:
    """What synthetic defects an inspector finds, at the threshold it had.

    `smallest`: by contrast (`faint`, `typical`, `strong`) the size in pixels of the view that is
    found with 90 % probability, None where even the largest is not. `bands` are by size, `kinds`
    have (trials, passed). `places` [8][8] is the share found around each place of the view, row by
    row. `side` is the view's, `parts` how many good parts there were, `threshold` what they were
    judged at, `version` of which version.
    """

    version: int
    threshold: float
    side: int
    parts: int
    trials: int
    smallest: dict[str, float | None]
    bands: tuple[Band, ...]
    kinds: dict[str, tuple[int, int]]
    places: tuple[tuple[float, ...], ...]

    @classmethod
    def from_trials(
        cls, trials: Sequence[Trial], *, side: int, parts: int, threshold: float, version: int
    ) -> Detection:
        """Sum up trials on views of `side` pixels."""
        sizes = np.array([trial.size for trial in trials])
        found = np.array([trial.found for trial in trials])
        edges = np.geomspace(sizes.min(), sizes.max(), _BANDS + 1)
        edges[-1] = np.nextafter(edges[-1], np.inf)
        bands = []
        for low, high in pairwise(edges):
            here = (sizes >= low) & (sizes < high)
            band = Band(float(low), float(high), int(here.sum()), int((here & ~found).sum()))
            bands.append(band)
        kinds = {}
        for kind in dict.fromkeys(trial.kind for trial in trials):
            of_kind = [trial.found for trial in trials if trial.kind == kind]
            kinds[kind] = (len(of_kind), of_kind.count(False))
        return cls(
            version=version,
            threshold=threshold,
            side=side,
            parts=parts,
            trials=len(trials),
            smallest=_smallest(trials),
            bands=tuple(bands),
            kinds=kinds,
            places=_places(trials, side),
        )

    @property
    def poor(self) -> bool:
        """Whether a defect of usual contrast must be larger than an eighth of the view."""
        size = self.smallest["typical"]
        return size is None or size > POOR * self.side

    @property
    def passed(self) -> float:
        """The share of all defects that passed."""
        return sum(band.passed for band in self.bands) / self.trials

    @property
    def summary(self) -> tuple[str, str]:
        """What is found, and what share passes by size, in words."""
        typical = self.smallest["typical"]
        first = (
            f"9 of 10 synthetic defects not even at {self.bands[-1].high:.0f} px"
            if typical is None
            else f"9 of 10 synthetic defects from {typical:.0f} px"
        )
        others = [
            f"{name} ones {'not' if size is None else f'from {size:.0f}'}"
            for name, size in self.smallest.items()
            if name != "typical"
        ]
        shares = [
            f"{band.low:.0f}-{band.high:.0f} px {100 * band.passed / band.trials:.0f} %"
            for band in self.bands
            if band.trials
        ]
        return f"{first} of the view's {self.side} ({', '.join(others)})", ", ".join(shares)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _smallest(trials: Sequence[Trial]) -> dict[str, float | None]:
    """The sizes that are found with 90 % probability, by contrast."""
    sizes = np.log2([trial.size for trial in trials])
    contrasts = np.log2([max(trial.contrast, 1e-3) for trial in trials])
    found = np.array([float(trial.found) for trial in trials])
    centre, spread = (sizes.mean(), contrasts.mean()), (sizes.std() or 1, contrasts.std() or 1)
    slopes = _logistic(
        np.stack([(sizes - centre[0]) / spread[0], (contrasts - centre[1]) / spread[1]], axis=1),
        found,
    )
    wanted = np.log(SURE / (1 - SURE))
    answers: dict[str, float | None] = {}
    for name, quantile in CONTRASTS.items():
        contrast = (np.quantile(contrasts, quantile) - centre[1]) / spread[1]
        if slopes[1] <= 0:  # larger ones are not found more often: no size is enough
            reached = np.inf if slopes[0] + slopes[2] * contrast < wanted else -np.inf
        else:
            reached = (wanted - slopes[0] - slopes[2] * contrast) / slopes[1]
        size = min(max(reached * spread[0] + centre[0], sizes.min()), np.inf)
        answers[name] = None if size > sizes.max() else round(float(2**size), 1)
    return answers


def _logistic(values: Doubles, found: Doubles) -> Doubles:
    """Intercept and slopes of a logistic curve, by Newton's steps; slopes have a small prior."""
    design = np.concatenate([np.ones((len(values), 1)), values], axis=1)
    prior = np.diag([1e-6, *[_PRIOR] * values.shape[1]])
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(design @ weights).clip(-30, 30)))
        slope = design.T @ (found - chance) - prior @ weights
        bend = (design * (chance * (1 - chance))[:, None]).T @ design + prior
        step = np.linalg.solve(bend, slope)
        weights += step.clip(-2, 2)
        if abs(step).max() < 1e-9:
            break
    return weights


def _places(trials: Sequence[Trial], side: int) -> tuple[tuple[float, ...], ...]:
    """The share found around the middle of each cell, nearer trials counting more."""
    middles = (np.arange(CELLS) + 0.5) * side / CELLS
    centres = np.array([trial.centre for trial in trials])
    found = np.array([float(trial.found) for trial in trials])
    rows = []
    for y in middles:
        row = []
        for x in middles:
            away = ((centres - (x, y)) ** 2).sum(axis=1)
            # The nearest counts 1, so that a place where nothing was laid has its answer too.
            weights = np.exp(-0.5 * (away - away.min()) / (_NEAR * side) ** 2)
            row.append(round(float((weights * found).sum() / weights.sum()), 3))
        rows.append(tuple(row))
    return tuple(rows)
