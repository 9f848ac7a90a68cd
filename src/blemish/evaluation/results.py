"""What an evaluation leaves: one case a test image, one result a category, and their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.evaluation.datasets import Sample
from blemish.verdict import Inspection

FIGURES = (
    "image_auroc",
    "image_ap",
    "image_f1max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1max",
    "aupro",
    "aupro_005",
)
SPRO_FIGURES = ("spro", "spro_logical", "spro_structural")  # where the dataset defines them


@dataclass(frozen=True)
class Case:
    """One test image and what became of it; `sample` leads to its masks (`load_mask`).

    `anomaly_map` [h, w] is at the view's size, float16 to hold a whole test set in memory: for
    pictures. All figures come from the float32 maps.
    """

    image: Path
    label: int
    defect: str
    score: float
    p_value: float | None
    verdict: str
    latency_ms: float
    anomaly_map: npt.NDArray[np.float16]
    image_size: tuple[int, int]  # (height, width) before the view
    sample: Sample

    @classmethod
    def of(cls, sample: Sample, result: Inspection) -> Case:
        """The case of one inspected sample."""
        limit = np.finfo(np.float16).max
        return cls(
            image=sample.image,
            label=sample.label,
            defect=sample.defect,
            score=result.score,
            p_value=result.p_value,
            verdict=result.verdict,
            latency_ms=result.latency_ms,
            anomaly_map=np.clip(result.image_map, -limit, limit).astype(np.float16),
            image_size=result.image_size or result.anomaly_map.shape[:2],
            sample=sample,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the map."""
        return {
            "image": str(self.image),
            "label": self.label,
            "defect": self.defect,
            "score": self.score,
            "p_value": self.p_value,
            "verdict": self.verdict,
            "latency_ms": round(self.latency_ms, 3),
        }


@dataclass(frozen=True)
class FalseAlarms:
    """What the calibrated threshold did on the test images; no figure depends on it."""

    rate: float
    threshold: float  # of scores
    region_threshold: float  # of the map's pixels, above which they are outlined
    good: int
    rejected: int
    defective: int
    escaped: int


@dataclass(frozen=True)
class CategoryResult:
    """One category's figures; None where a figure cannot be computed (`notes` say why)."""

    category: str
    n_train: int
    n_test: int
    figures: dict[str, float | None]
    fit_seconds: float
    latency_ms: dict[str, float]  # p50, p95 and p99, file to verdict, one image at a time
    peak_rss_mb: float | None
    false_alarms: FalseAlarms | None = None
    notes: tuple[str, ...] = field(default=())
    calibrate_seconds: float | None = None
    defects: dict[str, dict[str, Any]] = field(default_factory=dict)  # figures of each kind
    cases: tuple[Case, ...] = field(default=(), repr=False)

    def to_dict(self, *, cases: bool = False) -> dict[str, Any]:
        """The JSON object of the contract; with `cases`, one object a test image in it."""
        result: dict[str, Any] = {
            "category": self.category,
            "n_train": self.n_train,
            "n_test": self.n_test,
            **self.figures,
            "defects": self.defects,
            "fit_seconds": round(self.fit_seconds, 3),
            "calibrate_seconds": None
            if self.calibrate_seconds is None
            else round(self.calibrate_seconds, 3),
            "latency_ms": self.latency_ms,
            "peak_rss_mb": self.peak_rss_mb,
            "notes": list(self.notes),
        }
        if self.false_alarms is not None:
            result["false_alarms"] = vars(self.false_alarms)
        if cases:
            result["cases"] = [case.to_dict() for case in self.cases]
        return result


def mean_figures(results: Sequence[CategoryResult]) -> dict[str, float | None]:
    """The unweighted mean over categories; None where any category has no figure."""
    names = dict.fromkeys((*FIGURES, *(name for result in results for name in result.figures)))
    means: dict[str, float | None] = {}
    for name in names:
        values = [result.figures.get(name) for result in results]
        known = [value for value in values if value is not None]
        means[name] = sum(known) / len(known) if known and len(known) == len(values) else None
    return means
