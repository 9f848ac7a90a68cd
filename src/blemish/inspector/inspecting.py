"""From one image's pixels to its result, by one version of an inspector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from blemish.detector import to_batch
from blemish.imaging import View
from blemish.inspector.snapshot import Snapshot
from blemish.verdict import Inspection, find_regions, judge


def inspected(
    now: Snapshot, pixels: npt.NDArray[np.float32], view: View, device: torch.device
) -> Inspection:
    """The result for RGB [H, W, 3] in [0, 1]; the image's name and the time are the caller's."""
    maps = now.detector.anomaly_maps(to_batch([view.apply(pixels)], device))
    score = float(now.detector.scores(maps)[0])
    anomaly_map = maps[0].cpu().numpy()
    p_value, threshold, verdict = judge(score, now.calibration)
    size = (pixels.shape[0], pixels.shape[1])
    regions = (
        find_regions(anomaly_map, now.calibration.region_threshold, view=view, source_size=size)
        if now.calibration is not None
        else ()
    )
    return Inspection(
        score=score,
        p_value=p_value,
        threshold=threshold,
        verdict=verdict,
        anomaly_map=anomaly_map,
        regions=regions,
        image_size=size,
        version=now.manifest.version,
    )
