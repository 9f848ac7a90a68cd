"""The result of inspecting one image: raw score first, then what calibration makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.imaging.geometry import Mask, inverse, lands_in, stretch, warp
from blemish.verdict.calibration import Calibration, Verdict
from blemish.verdict.regions import Region

NOT_CALIBRATED = "not calibrated"
ABOVE_REVIEW = "above the review threshold"


@dataclass(frozen=True)
class Inspection:
    """One inspected image.

    `score` is raw and unbounded, higher = worse; `anomaly_map` [h, w] is in the same units, at the
    view's size. Without a calibration nothing is promised: `p_value` and `threshold` are None and
    the verdict is `review`. `reason` says why a person must decide; None for `pass` and `fail`.
    """

    score: float
    p_value: float | None
    threshold: float | None
    verdict: Verdict
    anomaly_map: npt.NDArray[np.float32]
    regions: tuple[Region, ...] = ()
    image: str | None = None
    image_size: tuple[int, int] | None = None  # (height, width) before the view
    inspector: str = ""
    version: int = 0
    latency_ms: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)  # ms by stage, in the stages' order
    # How the picture looked, apart from the part: brightness, sharpness, the alignment's residual.
    measures: Mapping[str, float] = field(default_factory=dict)
    review_threshold: float | None = None
    reason: str | None = None
    matrix: npt.NDArray[np.float64] | None = None  # map to image pixels; None: the map covers it
    counted: Mask | None = None  # which pixels of the map count; None: all

    @property
    def image_map(self) -> npt.NDArray[np.float32]:
        """The map as one of the whole image, of any size with its sides' ratio; 0 beyond the view.

        Aligned, padded and turned parts are laid back where they are in the image.
        """
        if self.matrix is None or self.image_size is None:
            return self.anomaly_map
        back = inverse(self.matrix)
        return np.asarray(warp(self.anomaly_map, back, self.image_size, outside=0.0), np.float32)

    @property
    def image_counted(self) -> Mask | None:
        """Which pixels [H, W] of the whole image count, for `overlay`; None: all."""
        if self.image_size is None or (self.counted is None and self.matrix is None):
            return None
        counted = np.ones(self.anomaly_map.shape) if self.counted is None else self.counted
        (height, width), (rows, columns) = self.image_size, counted.shape
        covering = stretch(width / columns, height / rows)
        back = inverse(covering if self.matrix is None else self.matrix)
        share = warp(counted.astype(np.float32), back, self.image_size)
        found = (share >= 0.5) & lands_in(back, self.image_size, (rows, columns))
        return None if found.all() else np.asarray(found)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `blemish inspect` prints."""
        return {
            "image": self.image,
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "review_threshold": self.review_threshold,
            "verdict": self.verdict,
            "reason": self.reason,
            "regions": [region.to_dict() for region in self.regions],
            "inspector": self.inspector,
            "version": self.version,
            "latency_ms": round(self.latency_ms, 3),
        }


class Judgement(NamedTuple):
    """What calibration makes of a score; `reason` says why a person must decide, if so."""

    p_value: float | None
    threshold: float | None
    review_threshold: float | None
    verdict: Verdict
    reason: str | None


def judge(score: float, calibration: Calibration | None, problem: str | None = None) -> Judgement:
    """The verdict on a score; without a calibration a person must decide.

    So must one where the part could not be seen as the templates are: `problem` says what was
    wrong, and the verdict is `review` whatever the score.
    """
    if calibration is None:
        return Judgement(None, None, None, "review", problem or NOT_CALIBRATED)
    verdict = "review" if problem else calibration.verdict(score)
    reason = (problem or ABOVE_REVIEW) if verdict == "review" else None
    return Judgement(
        calibration.p_value(score),
        calibration.threshold,
        calibration.review_threshold,
        verdict,
        reason,
    )


def error_to_dict(image: str | None, error: BlemishError) -> dict[str, Any]:
    """The JSON object of an image that could not be inspected."""
    return {
        "image": image,
        "verdict": "error",
        "error": {"code": error.code, "message": str(error)},
    }
