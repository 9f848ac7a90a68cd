"""From one image's pixels to its result, by one version of an inspector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blemish.engine import Laps
from blemish.imaging import TiledView, View
from blemish.inspector.snapshot import Snapshot
from blemish.verdict import Inspection, find_regions, judge


def inspected(
    now: Snapshot, pixels: npt.NDArray[np.float32], view: View | TiledView, laps: Laps
) -> Inspection:
    """The result for RGB [H, W, 3] in [0, 1]; the image's name and the time are the caller's."""
    viewed = view.apply(pixels)
    laps.lap("view")
    maps, template_at = now.engine.examined(viewed, laps)
    score, anomaly_map = float(now.engine.scores(maps)[0]), maps[0]
    judged = judge(score, now.calibration)
    size = (pixels.shape[0], pixels.shape[1])

    def nearest(points: Sequence[tuple[int, int]]) -> list[str | None]:
        templates = now.manifest.templates
        return [None if index is None else templates[index].id for index in template_at(points)]

    regions = (
        find_regions(
            anomaly_map,
            now.calibration.region_level(score),
            view=view,
            source_size=size,
            nearest=nearest,
        )
        if now.calibration is not None
        else ()
    )
    laps.lap("verdict")
    return Inspection(
        score=score,
        anomaly_map=anomaly_map,
        regions=regions,
        image_size=size,
        version=now.manifest.version,
        timings=laps.spent,
        **judged._asdict(),
    )
