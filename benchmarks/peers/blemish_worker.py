"""Our side of one job: `Inspector` fits, scores and saves, through its public interface only.

Nothing is calibrated, so that both sides do the same work: a raw map and a raw score. Everything is
imported before a clock starts: start-up has figures of its own.
"""

from __future__ import annotations

import time
from pathlib import Path

from work import (
    IN_PROCESS,
    SIZE,
    Job,
    Maps,
    Predict,
    from_command_line,
    leave,
    peak_rss_mb,
    score_all,
)

import blemish.detectors.hetmm.learning  # imported late by design; see the docstring
from blemish import Inspector

BUNDLE = "bundle"


def main() -> None:
    job = from_command_line()
    if job.way == IN_PROCESS:
        fit_and_score(job)
    else:
        started = time.perf_counter()
        inspector = Inspector.load(job.exports[BUNDLE], device="cpu")
        load_seconds = time.perf_counter() - started
        result = score_all(job, predictor(inspector))
        leave(job, {**result, "load_seconds": load_seconds, "peak_rss_mb": peak_rss_mb()})


def fit_and_score(job: Job) -> None:
    """Fit, score in the same process, then save the bundle where it was asked for."""
    detector = getattr(blemish, job.method)(backbone=job.backbone, **job.options)
    inspector = Inspector(detector, size=SIZE, device="cpu", seed=job.seed)
    started = time.perf_counter()
    inspector.fit([Path(path) for path in job.train])
    fit_seconds = time.perf_counter() - started
    result = score_all(job, predictor(inspector))
    peak = peak_rss_mb()
    if BUNDLE in job.exports:
        inspector.save(job.exports[BUNDLE])
    leave(job, {**result, "fit_seconds": fit_seconds, "peak_rss_mb": peak})


def predictor(inspector: Inspector) -> Predict:
    """A file to its raw map and score."""

    def predict(path: str) -> tuple[Maps, float]:
        result = inspector.inspect(path)
        return result.anomaly_map, result.score

    return predict


if __name__ == "__main__":
    main()
