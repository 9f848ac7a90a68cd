"""What is watched of an inspector's parts, against what, and how a person is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from blemish.station.drift.ranks import (
    Distance,
    Floats,
    Shift,
    kolmogorov_smirnov,
    mann_whitney,
    uniformity,
)

CAMERA = ("brightness", "sharpness", "residual")  # how the picture is, whatever the part
MEASURES = ("score", "p_value", *CAMERA)
FEWEST = 10  # values that a test is made with
# What is too little for a person to look, however sure: a fifth of the parts lies elsewhere, or
# a part is above the reference in 3 of 5 cases.
LEAST_DISTANCE, LEAST_SHIFT = 0.2, 0.1

CALIBRATION = "the calibration set"
FIRST_PARTS = "the first {parts} parts of version {version}"

_CAUSES = {
    ("score", "rose"): "parts are less like the golden samples; look at the newest failed ones",
    ("score", "fell"): "parts are more alike than those of the calibration; calibrate again",
    ("brightness", "rose"): "the lamp or the exposure may have changed",
    ("brightness", "fell"): "the lamp or the exposure may have changed",
    ("sharpness", "rose"): "the focus or the camera's processing may have changed",
    ("sharpness", "fell"): "the lens may be dirty or out of focus",
    ("residual", "rose"): "parts lie otherwise than the golden image; look at the fixture",
    ("residual", "fell"): "parts lie more alike than before; calibrate again",
}
_VARIES = "parts or pictures are no longer of one kind; look at the newest ones"


@dataclass(frozen=True)
class Window:
    """The last parts of an inspector, oldest first: a value of each measure, NaN where none [m].

    `passed`: which a machine passed or left to review, and no person called bad.
    """

    ids: tuple[str, ...]
    values: Mapping[str, Floats]
    passed: npt.NDArray[np.bool_]

    def of(self, measure: str) -> Floats:
        """The values that count for a measure.

        All parts for scores and p-values. How pictures look is told from parts that passed or are
        in review: a burst of defects is no drift of the camera. Where these are not even half,
        something is wrong with all parts, and all count.
        """
        values = self.values[measure]
        if measure in CAMERA and 2 * int(self.passed.sum()) >= len(self.ids):
            values = values[self.passed]
        return values[np.isfinite(values)]


@dataclass(frozen=True)
class Reference:
    """What a measure was like when all was well, and where that is from, in words."""

    values: Floats
    source: str = CALIBRATION


@dataclass(frozen=True)
class References:
    """Of each measure that has one; p-values are places among the `calibration` scores [n]."""

    by_measure: Mapping[str, Reference] = field(default_factory=dict)
    calibration: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Finding:
    """One test of one measure: its p-value, and what a person is told if it is an alarm."""

    measure: str
    p_value: float
    large: bool  # enough for a person to look
    message: str
    evidence: dict[str, object]


def look(window: Window, references: References) -> list[Finding]:
    """A test of each measure that has values and a reference."""
    found = []
    for measure in MEASURES:
        values = window.of(measure) if measure in window.values else np.empty(0)
        if len(values) < FEWEST:
            continue
        if measure == "p_value":
            if len(references.calibration) >= FEWEST:
                found.append(_of_p_values(values, references.calibration))
        elif (reference := references.by_measure.get(measure)) is not None:
            found.append(_compared(measure, values, reference))
    return found


def _compared(measure: str, values: Floats, reference: Reference) -> Finding:
    apart = kolmogorov_smirnov(values, reference.values)
    before, now = float(np.median(reference.values)), float(np.median(values))
    if measure == "score":
        # Defects among the parts make a long tail; where most parts are it hardly moves.
        shift = mann_whitney(values, reference.values)
        large = abs(shift.superiority - 0.5) >= LEAST_SHIFT
        direction = "rose" if shift.superiority > 0.5 else "fell"
        message = _moved(measure, direction, before, now, reference)
        return _finding(measure, shift, large, message, values, reference)
    if min(apart.above, apart.below) > apart.largest / 2:
        low, high = np.percentile(reference.values, (10, 90)).tolist()
        low_now, high_now = np.percentile(values, (10, 90)).tolist()
        message = (
            f"{measure} varies otherwise: {low_now:.3g} to {high_now:.3g} in most of the last "
            f"{len(values)} parts, {low:.3g} to {high:.3g} in {reference.source}; {_VARIES}"
        )
    else:
        direction = "rose" if apart.above > apart.below else "fell"
        message = _moved(measure, direction, before, now, reference)
    large = apart.largest >= LEAST_DISTANCE
    return _finding(measure, apart, large, message, values, reference)


def _of_p_values(values: Floats, calibration: Floats) -> Finding:
    apart = uniformity(values, calibration)
    small = float((values <= 0.1).mean())
    told = "small" if apart.below > apart.above else "large"
    if min(apart.above, apart.below) > apart.largest / 2:
        told = "small and large" if small > 0.1 else "middling"
    message = (
        f"p-values are no longer uniform: too many {told} ones ({small:.0%} of the last "
        f"{len(values)} parts are at most 0.1, which 10% should be); the promised false-alarm rate "
        "may no longer hold; look at the newest parts, then calibrate again"
    )
    parts = len(calibration)
    reference = Reference(np.arange(1, parts + 1) / parts)
    large = apart.largest >= LEAST_DISTANCE
    return _finding("p_value", apart, large, message, values, reference)


def _moved(measure: str, direction: str, before: float, now: float, reference: Reference) -> str:
    against = "" if reference.source == CALIBRATION else f" (against {reference.source})"
    cause = _CAUSES[measure, direction]
    return f"{measure} {direction} from {before:.3g} to {now:.3g}{against}; {cause}"


def _finding(
    measure: str,
    test: Distance | Shift,
    large: bool,
    message: str,
    values: Floats,
    reference: Reference,
) -> Finding:
    evidence: dict[str, object] = {
        "p_value": test.p_value,
        "parts": len(values),
        "reference_parts": len(reference.values),
        "reference": reference.source,
        "median": float(np.median(values)),
        "reference_median": float(np.median(reference.values)),
    }
    if isinstance(test, Distance):
        evidence["distance"] = test.largest
    else:
        evidence["superiority"] = test.superiority
    return Finding(measure, test.p_value, large, message, evidence)
