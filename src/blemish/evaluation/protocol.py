"""The protocol: fit on a category's good images, score its test images, compute every figure.

Rules of evaluation (docs/evaluation.md): one configuration for all categories, test labels out of
reach of fitting (a detector is handed `Category.train`, bare paths), figures that cannot be
computed are None.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blemish.evaluation.datasets import Category, Sample, load_mask
from blemish.evaluation.metrics import PixelMetrics, auroc, average_precision, f1_max
from blemish.imaging import Progress, silent
from blemish.inspector import Inspector
from blemish.verdict import Inspection

FIGURES = (
    "image_auroc",
    "image_ap",
    "image_f1max",
    "pixel_auroc",
    "pixel_ap",
    "aupro",
)


@dataclass(frozen=True)
class FalseAlarms:
    """What the calibrated threshold did on the test images; no figure above depends on it."""

    rate: float
    threshold: float
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
    latency_ms: dict[str, float]  # p50 and p95, file to verdict, one image at a time
    peak_rss_mb: float | None
    false_alarms: FalseAlarms | None = None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        result: dict[str, Any] = {
            "category": self.category,
            "n_train": self.n_train,
            "n_test": self.n_test,
            **self.figures,
            "fit_seconds": round(self.fit_seconds, 3),
            "latency_ms": self.latency_ms,
            "peak_rss_mb": self.peak_rss_mb,
            "notes": list(self.notes),
        }
        if self.false_alarms is not None:
            result["false_alarms"] = vars(self.false_alarms)
        return result


def evaluate_category(
    category: Category,
    make_inspector: Callable[[], Inspector],
    *,
    false_alarm_rate: float | None = None,
    progress: Progress = silent,
) -> CategoryResult:
    """Fit on the category's good images and score its test images, one at a time from file.

    With `false_alarm_rate` the inspector is calibrated too, on good training images alone, and the
    result counts rejected good parts and escaped defective ones.
    """
    inspector = make_inspector()
    started = time.perf_counter()
    inspector.fit(list(category.train), progress=progress)
    fit_seconds = time.perf_counter() - started
    if false_alarm_rate is not None:
        inspector.calibrate(false_alarm_rate=false_alarm_rate, progress=progress)

    pixels = PixelMetrics()
    results: list[Inspection] = []
    inspector.inspect(category.test[0].image)  # the first call allocates; it is not the line's pace
    progress("testing", 0, len(category.test))
    for done, sample in enumerate(category.test, start=1):
        result = inspector.inspect(sample.image)
        results.append(result)
        _add_pixels(pixels, sample, result)
        progress("testing", done, len(category.test))

    labels = np.array([sample.label for sample in category.test])
    scores = np.array([result.score for result in results])
    of_pixels = pixels.compute()
    best_f1 = f1_max(labels, scores)
    latencies = [result.latency_ms for result in results]
    notes = category.notes
    if of_pixels.reason is not None and not any("pixel" in note for note in notes):
        notes = (*notes, of_pixels.reason)
    return CategoryResult(
        category=category.name,
        n_train=len(category.train),
        n_test=len(category.test),
        figures={
            "image_auroc": auroc(labels, scores),
            "image_ap": average_precision(labels, scores),
            "image_f1max": None if best_f1 is None else best_f1.value,
            "pixel_auroc": of_pixels.auroc,
            "pixel_ap": of_pixels.ap,
            "aupro": of_pixels.aupro,
        },
        fit_seconds=fit_seconds,
        latency_ms={
            "p50": round(float(np.percentile(latencies, 50)), 3),
            "p95": round(float(np.percentile(latencies, 95)), 3),
        },
        peak_rss_mb=peak_rss_mb(),
        false_alarms=_count(category.test, results, false_alarm_rate, inspector),
        notes=notes,
    )


def mean_figures(results: Sequence[CategoryResult]) -> dict[str, float | None]:
    """The unweighted mean over categories; None where any category has no figure."""
    means: dict[str, float | None] = {}
    for name in FIGURES:
        values = [result.figures[name] for result in results]
        known = [value for value in values if value is not None]
        means[name] = sum(known) / len(known) if known and len(known) == len(values) else None
    return means


def peak_rss_mb() -> float | None:
    """The most memory this process has held so far, in MB; None where the system won't tell."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def _add_pixels(pixels: PixelMetrics, sample: Sample, result: Inspection) -> None:
    pixels.add(result.anomaly_map, load_mask(sample), size=result.image_size, label=sample.label)


def _count(
    test: Sequence[Sample],
    results: Sequence[Inspection],
    rate: float | None,
    inspector: Inspector,
) -> FalseAlarms | None:
    if rate is None or inspector.calibration is None:
        return None
    failed = np.array([result.verdict == "fail" for result in results])
    defective = np.array([sample.label == 1 for sample in test])
    return FalseAlarms(
        rate=rate,
        threshold=inspector.calibration.threshold,
        good=int((~defective).sum()),
        rejected=int((failed & ~defective).sum()),
        defective=int(defective.sum()),
        escaped=int((~failed & defective).sum()),
    )
