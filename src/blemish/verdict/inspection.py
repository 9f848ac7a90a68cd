"""The result of inspecting one image: raw score first, then what calibration makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.verdict.calibration import Calibration, Verdict
from blemish.verdict.regions import Region


@dataclass(frozen=True)
class Inspection:
    """One inspected image.

    `score` is raw and unbounded, higher = worse; `anomaly_map` [h, w] is in the same units, at the
    view's size. Without a calibration nothing is promised: `p_value` and `threshold` are None and
    the verdict is `review`.
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

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that `blemish inspect` prints."""
        return {
            "image": self.image,
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "verdict": self.verdict,
            "regions": [region.to_dict() for region in self.regions],
            "inspector": self.inspector,
            "version": self.version,
            "latency_ms": round(self.latency_ms, 3),
        }


def judge(
    score: float, calibration: Calibration | None
) -> tuple[float | None, float | None, Verdict]:
    """(p-value, threshold, verdict) of a score; without a calibration a person must decide."""
    if calibration is None:
        return None, None, "review"
    return calibration.p_value(score), calibration.threshold, calibration.verdict(score)


def error_to_dict(image: str | None, error: BlemishError) -> dict[str, Any]:
    """The JSON object of an image that could not be inspected."""
    return {
        "image": image,
        "verdict": "error",
        "error": {"code": error.code, "message": str(error)},
    }
