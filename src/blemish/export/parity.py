"""Parity: how far an export is from its original on images, and which verdicts differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.bundle import Precision
from blemish.detectors import Detector, Maps
from blemish.imaging import Progress, silent
from blemish.verdict import ROUNDING, Calibration, judge

# Of the largest value of the original's maps. Lower precisions are measured, not held to these.
TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.05, "int8": 0.5}


@dataclass(frozen=True)
class Shown:
    """An image that both detectors look at: what to call it, its viewed pixels, and its template.

    `template` is the position of the template that it is (-1: none), which is left out of its own
    map: a template's own map is 0, and says nothing.
    """

    name: str
    pixels: npt.NDArray[np.float32]
    template: int = -1


@dataclass(frozen=True)
class Flip:
    """An image whose verdict is another one."""

    image: str
    before: str
    after: str
    score_before: float
    score_after: float


@dataclass(frozen=True)
class Agreement:
    """How two detectors compare on the same `images`.

    `largest` is the largest difference of two maps' pixels, `relative` that by the largest value of
    the first detector's maps; `milliseconds` the median times of both.
    """

    images: int
    largest: float
    relative: float
    flips: tuple[Flip, ...]
    milliseconds: tuple[float, float]


def compare_detectors(
    before: Detector,
    after: Detector,
    images: Sequence[Shown],
    calibrations: tuple[Calibration | None, Calibration | None],
    *,
    progress: Progress = silent,
) -> Agreement:
    """Run both detectors on the images, each judged by its own calibration."""
    largest = highest = 0.0
    flips: list[Flip] = []
    spent: tuple[list[float], list[float]] = ([], [])
    progress("comparing", 0, len(images))
    for done in range(len(images)):
        shown = images[done]
        maps: list[npt.NDArray[np.float64]] = []
        scores: list[float] = []
        verdicts: list[str] = []
        for detector, calibration, times in zip((before, after), calibrations, spent, strict=True):
            started = time.perf_counter()
            found = map_of(detector, shown)
            times.append(1e3 * (time.perf_counter() - started))
            maps.append(found.astype(np.float64))
            scores.append(float(detector.scores(found)[0]))
            verdicts.append(judge(scores[-1], calibration).verdict)
        difference = float(np.abs(maps[0] - maps[1]).max())
        # max() would pass over NaN, which must fail.
        largest = difference if not difference <= largest else largest
        highest = max(highest, float(np.abs(maps[0]).max()))
        # The same number rounded in another order can lie on both sides of a threshold set by hand.
        same = abs(scores[0] - scores[1]) <= ROUNDING * abs(scores[0])
        if verdicts[0] != verdicts[1] and not same:
            flips.append(Flip(shown.name, verdicts[0], verdicts[1], scores[0], scores[1]))
        progress("comparing", done + 1, len(images))
    medians = [float(np.median(times)) for times in spent]
    return Agreement(
        images=len(images),
        largest=largest,
        relative=largest / max(highest, 1e-12),
        flips=tuple(flips),
        milliseconds=(medians[0], medians[1]),
    )


def map_of(detector: Detector, shown: Shown) -> Maps:
    """The map [1, H, W] of an image, without the template that it is."""
    if shown.template < 0 or not detector.leaves_one_out:
        return detector.maps([shown.pixels])
    return next(detector.calibration_maps([shown.pixels], [0], [shown.template]))
