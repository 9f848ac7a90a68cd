"""Regions: the connected parts of an anomaly map above the threshold, in the image's own pixels.

Map and score obey one rule (the score is the map's maximum wherever regions are drawn), so a part
that fails has a region that says where, and a part that passes has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.imaging import View


@dataclass(frozen=True)
class Region:
    """A defect candidate: `box` (x, y, w, h) and `area` in image pixels, `peak` in score units."""

    box: tuple[int, int, int, int]
    area: int
    peak: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        return {"box": list(self.box), "area": self.area, "peak": self.peak}


def find_regions(
    anomaly_map: npt.NDArray[np.float32],
    threshold: float,
    *,
    view: View,
    source_size: tuple[int, int],
) -> tuple[Region, ...]:
    """Regions of `anomaly_map` [h, w] above `threshold`, worst first; touching corners connect.

    `source_size` is the image's (height, width) before the view.
    """
    above = (anomaly_map > threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    scale = source_size[0] * source_size[1] / anomaly_map.size
    regions = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        window = np.s_[y : y + height, x : x + width]
        peak = float(anomaly_map[window][labels[window] == label].max())
        box = view.to_source((x, y, width, height), source_size)
        regions.append(Region(box, max(1, round(area * scale)), peak))
    return tuple(sorted(regions, key=lambda region: -region.peak))
