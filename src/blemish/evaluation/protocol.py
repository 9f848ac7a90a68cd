"""The protocol: fit on a category's good images, score its test images, compute every figure.

Rules of evaluation (docs/evaluation.md): one configuration for all categories, test labels out of
reach of fitting (`learn` is handed bare paths of good images and nothing else), figures that
cannot be computed are None. What varies the protocol (seeds, few shots, noise, continual,
corruption) is in `protocols`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blemish.errors import CalibrationError
from blemish.evaluation.datasets import Category, Sample
from blemish.evaluation.results import (
    FIGURES,
    SPRO_FIGURES,
    Case,
    CategoryResult,
    FalseAlarms,
    mean_figures,
)
from blemish.evaluation.trial import Trial, Truth, load_truth
from blemish.imaging import Progress, silent
from blemish.inspector import Inspector
from blemish.verdict import Inspection

__all__ = [
    "FIGURES",
    "SPRO_FIGURES",
    "Case",
    "CategoryResult",
    "FalseAlarms",
    "Learned",
    "evaluate_category",
    "learn",
    "mean_figures",
    "peak_rss_mb",
    "score",
]


class Look(Protocol):
    """How a test image is inspected: as it is on disk, or changed first, its truth alike."""

    def __call__(
        self, inspector: Inspector, position: int, sample: Sample, truth: Truth
    ) -> tuple[Inspection, Truth]:
        """The inspection of the image at `position` of the test set, and what is to be found."""
        ...


@dataclass(frozen=True)
class Learned:
    """A fitted inspector, what fitting took, and why it was not calibrated if it could not be."""

    inspector: Inspector
    n_train: int
    fit_seconds: float
    calibrate_seconds: float | None = None
    notes: tuple[str, ...] = ()


def learn(
    inspector: Inspector,
    train: Sequence[Path],
    validation: Sequence[Path] = (),
    *,
    false_alarm_rate: float | None = None,
    must_calibrate: bool = True,
    progress: Progress = silent,
) -> Learned:
    """Fit on good images and, with a rate, calibrate on validation images or else on the same.

    No label and no test image passes through here. Where the rate cannot be promised, a
    CalibrationError, or a note unless `must_calibrate`.
    """
    started = time.perf_counter()
    inspector.fit(list(train), progress=progress)
    fit_seconds = time.perf_counter() - started
    decided = tuple(f"{name}: {why}" for name, why in inspector.detector.decisions().items())
    learned = Learned(inspector, len(train), fit_seconds, notes=decided)
    if false_alarm_rate is None:
        return learned
    return calibrated(
        learned,
        validation,
        false_alarm_rate,
        must_calibrate=must_calibrate,
        progress=progress,
    )


def calibrated(
    learned: Learned,
    validation: Sequence[Path],
    rate: float,
    *,
    must_calibrate: bool = True,
    progress: Progress = silent,
) -> Learned:
    """The same with its inspector calibrated at `rate`; see `learn`."""
    started = time.perf_counter()
    notes = learned.notes
    try:
        learned.inspector.calibrate(
            list(validation) or None, false_alarm_rate=rate, progress=progress
        )
    except CalibrationError as error:
        if must_calibrate:
            raise
        notes = (*notes, f"not calibrated: {error}")
    return Learned(
        learned.inspector,
        learned.n_train,
        learned.fit_seconds,
        time.perf_counter() - started,
        notes,
    )


def as_on_disk(
    inspector: Inspector, position: int, sample: Sample, truth: Truth
) -> tuple[Inspection, Truth]:
    """The `Look` of the standard protocol: file to verdict."""
    return inspector.inspect(sample.image), truth


def score(
    learned: Learned,
    category: Category,
    *,
    also: Sequence[Category] = (),
    look: Look = as_on_disk,
    keep_cases: bool = False,
    stage: str = "testing",
    progress: Progress = silent,
) -> list[CategoryResult]:
    """Inspect a category's test images, one at a time, and compute every figure.

    `also` are categories whose test images are some of this one's: they get a result each from
    the same inspections. `keep_cases` keeps every image's map (the first result's only).
    """
    inspector = learned.inspector
    trials = [Trial(category, keep_cases=keep_cases), *(Trial(part) for part in also)]
    members = [{sample.image for sample in trial.category.test} for trial in trials]
    inspector.inspect(category.test[0].image)  # the first call allocates; it is not the line's pace
    progress(stage, 0, len(category.test))
    for position, sample in enumerate(category.test):
        result, truth = look(inspector, position, sample, load_truth(category, sample))
        for trial, images in zip(trials, members, strict=True):
            if sample.image in images:
                trial.add(sample, result, truth)
        progress(stage, position + 1, len(category.test))
    return [_result(learned, trial) for trial in trials]


def evaluate_category(
    category: Category,
    make_inspector: Callable[[], Inspector],
    *,
    false_alarm_rate: float | None = None,
    keep_cases: bool = True,
    progress: Progress = silent,
) -> CategoryResult:
    """Fit on the category's good images and score its test images, one at a time from file.

    With `false_alarm_rate` the inspector is calibrated too, on good images alone, and the result
    counts rejected good parts and escaped defective ones.
    """
    learned = learn(
        make_inspector(),
        category.train,
        category.validation,
        false_alarm_rate=false_alarm_rate,
        progress=progress,
    )
    return score(learned, category, keep_cases=keep_cases, progress=progress)[0]


def peak_rss_mb() -> float | None:
    """The most memory this process has held so far, in MB; None where the system won't tell."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def _result(learned: Learned, trial: Trial) -> CategoryResult:
    figures, defects, reasons = trial.figures()
    notes = (*trial.category.notes, *learned.notes)
    if not any("pixel" in note for note in notes):
        notes = (*notes, *reasons)
    return CategoryResult(
        category=trial.category.name,
        n_train=learned.n_train,
        n_test=len(trial.category.test),
        figures=figures,
        fit_seconds=learned.fit_seconds,
        latency_ms=trial.latency_ms(),
        peak_rss_mb=peak_rss_mb(),
        false_alarms=trial.false_alarms(learned.inspector.calibration),
        notes=notes,
        calibrate_seconds=learned.calibrate_seconds,
        defects=defects,
        cases=tuple(trial.cases),
    )
