"""A trial takes inspections of one test set, image by image, and gives every figure of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blemish.evaluation.datasets import Category, Defect, Sample, load_defects, load_mask
from blemish.evaluation.metrics import (
    LOCO_KINDS,
    DefectScores,
    PixelMetrics,
    auroc,
    average_precision,
    by_defect,
    f1_max,
    mean_over_kinds,
)
from blemish.evaluation.results import SPRO_FIGURES, Case, FalseAlarms
from blemish.verdict import Calibration, Inspection


@dataclass(frozen=True)
class Truth:
    """What is marked in one test image: the mask [H, W] (None: no file), and each defect of it.

    The defects one by one only where the dataset says how much of each must be found.
    """

    mask: npt.NDArray[np.bool_] | None
    defects: tuple[Defect, ...] = ()


def load_truth(category: Category, sample: Sample) -> Truth:
    """The ground truth of one test image, read from its files."""
    defects = load_defects(category, sample) if category.defect_rules else []
    return Truth(load_mask(sample), tuple(defects))


class Figures(NamedTuple):
    """All figures of a trial, those of each kind of defect, and why any of them is None."""

    figures: dict[str, float | None]
    defects: dict[str, dict[str, Any]]
    reasons: tuple[str, ...]


class Trial:
    """Gathers inspections of a category's test images; every figure is exact."""

    def __init__(self, category: Category, *, keep_cases: bool = False) -> None:
        self.category = category
        self.keep_cases = keep_cases
        self.cases: list[Case] = []
        self._labels: list[int] = []
        self._kinds: list[str] = []
        self._scores: list[float] = []
        self._failed: list[bool] = []
        self._latencies: list[float] = []
        self._pixels = PixelMetrics()

    def add(self, sample: Sample, result: Inspection, truth: Truth) -> None:
        """Count one inspected test image; its map goes into the pixel figures as float32."""
        self._labels.append(sample.label)
        self._kinds.append(sample.defect)
        self._scores.append(result.score)
        self._failed.append(result.verdict == "fail")
        self._latencies.append(result.latency_ms)
        self._pixels.add(
            result.image_map,
            truth.mask,
            defects=truth.defects,
            size=result.image_size,
            label=sample.label,
            kind=sample.defect,
        )
        if self.keep_cases:
            self.cases.append(Case.of(sample, result))

    def figures(self) -> Figures:
        """Every figure of the images added."""
        labels, scores = np.array(self._labels), np.array(self._scores)
        of_pixels = self._pixels.compute()
        kinds = by_defect(labels, scores, self._kinds, self._pixels)
        best = f1_max(labels, scores)
        figures = {
            "image_auroc": auroc(labels, scores),
            "image_ap": average_precision(labels, scores),
            "image_f1max": None if best is None else best.value,
            "pixel_auroc": of_pixels.auroc,
            "pixel_ap": of_pixels.ap,
            "pixel_f1max": of_pixels.f1_max,
            "aupro": of_pixels.aupro,
            "aupro_005": of_pixels.aupro_005,
        }
        if self.category.defect_rules:
            figures |= _spro(kinds)
        reasons = () if of_pixels.reason is None else (of_pixels.reason,)
        return Figures(
            figures, {name: self._plain(found) for name, found in kinds.items()}, reasons
        )

    def latency_ms(self) -> dict[str, float]:
        """Percentiles of one image's time."""
        return {
            f"p{share}": round(float(np.percentile(self._latencies, share)), 3)
            for share in (50, 95, 99)
        }

    def false_alarms(self, calibration: Calibration | None) -> FalseAlarms | None:
        """Good parts rejected and defective ones passed; None without a promised rate."""
        if calibration is None or calibration.false_alarm_rate is None:
            return None
        failed = np.array(self._failed, dtype=bool)
        defective = np.array(self._labels) == 1
        return FalseAlarms(
            rate=calibration.false_alarm_rate,
            threshold=calibration.threshold,
            region_threshold=calibration.region_threshold,
            good=int((~defective).sum()),
            rejected=int((failed & ~defective).sum()),
            defective=int(defective.sum()),
            escaped=int((~failed & defective).sum()),
        )

    def _plain(self, found: DefectScores) -> dict[str, Any]:
        values = asdict(found)
        if not self.category.defect_rules:
            del values["spro"]
        return values


def _spro(kinds: dict[str, DefectScores]) -> dict[str, float | None]:
    """sPRO as MVTec LOCO AD reports it: logical and structural anomalies apart, then averaged."""
    apart = [kinds[kind].spro if kind in kinds else None for kind in LOCO_KINDS]
    return dict(zip(SPRO_FIGURES, (mean_over_kinds(kinds, "spro"), *apart), strict=True))
