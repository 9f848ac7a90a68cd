"""From one image's pixels to its result, by one version of an inspector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blemish.detectors import Laps
from blemish.errors import BundleError
from blemish.imaging import Raster, TiledView, View, measured
from blemish.inspector.snapshot import Snapshot
from blemish.verdict import Inspection, Region, find_regions, judge

SHOWN = 0.01  # of a map: what is outlined of a part that fails without a peak
NOTHING_SEEN = "nothing of what counts is in the image"


def inspected(now: Snapshot, raster: Raster, view: View | TiledView, laps: Laps) -> Inspection:
    """The result for an image as read; its name and the time are the caller's."""
    seen = view.see(raster)
    laps.lap("view")
    maps, template_at = now.detector.examined(seen.pixels, laps)
    anomaly_map, inside, problem = maps[0], seen.inside, seen.problem
    if inside is not None and not inside.any():
        inside, problem = None, problem or NOTHING_SEEN
    score = now.detector.score(anomaly_map, inside)
    if not math.isfinite(score):
        raise BundleError(
            f"the score of this image is {score}: what this inspector has learned is damaged; load "
            "its bundle again, or restore an older version"
        )
    if inside is not None:
        anomaly_map = np.where(inside, anomaly_map, np.float32(0))
    judged = judge(score, now.calibration, problem)

    def nearest(points: Sequence[tuple[int, int]]) -> list[str | None]:
        templates = now.manifest.templates
        return [None if index is None else templates[index].id for index in template_at(points)]

    regions: tuple[Region, ...] = ()
    if now.calibration is not None:
        level = now.calibration.region_level(score)
        regions = find_regions(anomaly_map, level, place=seen, nearest=nearest)
        if not regions and judged.verdict != "pass" and problem is None:
            # A wide and faint defect makes no peak: then the highest part of the map shows where.
            counted = anomaly_map if inside is None else anomaly_map[inside]
            level = float(np.quantile(counted, 1 - SHOWN))
            regions = find_regions(anomaly_map, level, place=seen, nearest=nearest)
    # Tiles lie one below the other, their mask as in the image: there all is measured.
    fits = seen.inside is not None and seen.inside.shape == seen.pixels.shape[:2]
    measures = measured(seen.pixels, seen.inside if fits else None)
    if seen.residual is not None:
        measures["residual"] = seen.residual
    laps.lap("verdict")
    return Inspection(
        score=score,
        anomaly_map=anomaly_map,
        regions=regions,
        image_size=seen.hw,
        version=now.manifest.version,
        timings=laps.spent,
        measures=measures,
        matrix=None if view.covers_image else seen.matrix,
        counted=inside,
        **judged._asdict(),
    )
