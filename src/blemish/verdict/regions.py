"""Regions: the connected parts of an anomaly map above the threshold, in the image's own pixels.

Map and score obey one rule (the score is the map's maximum wherever regions are drawn), so a part
that fails has a region that says where, and a part that passes has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

Point = tuple[int, int]  # x, y in pixels of the view
# For points of the view the ids of the templates that the image was compared with there.
Nearest = Callable[[Sequence[Point]], Sequence[str | None]]

MOST_TOLD = 5  # regions whose template is looked up: it takes time, and the worst tell enough


Box = tuple[int, int, int, int]


class Place(Protocol):
    """Where a map lies on its image (`Seen` knows that of every part)."""

    def to_source(self, box: Box) -> Box:
        """The box of image pixels that covers what a box (x, y, w, h) of the map does."""
        ...

    def area(self, box: Box) -> float:
        """How many image pixels one of the map covers there."""
        ...


@dataclass(frozen=True)
class Region:
    """A defect candidate: `box` (x, y, w, h) and `area` in image pixels, `peak` in score units.

    `template` is the id of the template it was compared with at its peak, where that is known.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    template: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        return {
            "box": list(self.box),
            "area": self.area,
            "peak": self.peak,
            "template": self.template,
        }


def find_regions(
    anomaly_map: npt.NDArray[np.float32],
    threshold: float,
    *,
    place: Place,
    nearest: Nearest | None = None,
) -> tuple[Region, ...]:
    """Regions of `anomaly_map` [h, w] above `threshold`, worst first; touching corners connect.

    `place` leads from the map's pixels to the image's. `nearest` is asked once, and only
    if there are regions, for the templates of the worst few at their peaks.
    """
    # In float64: in float32 a threshold set by hand could be rounded up past a pixel, and so past
    # the score of a part that fails by it.
    above = np.greater(anomaly_map, threshold, signature="dd->?")
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    found: list[tuple[Region, Point]] = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        window = np.s_[y : y + height, x : x + width]
        inside = np.where(labels[window] == label, anomaly_map[window], -np.inf)
        row, column = divmod(int(inside.argmax()), width)
        on_map = (x, y, width, height)
        size = max(1, round(area * place.area(on_map)))
        region = Region(place.to_source(on_map), size, float(inside[row, column]))
        found.append((region, (x + column, y + row)))
    found.sort(key=lambda pair: -pair[0].peak)
    regions = [region for region, _ in found]
    if nearest is not None and found:
        templates = nearest([point for _, point in found[:MOST_TOLD]])
        for index, template in enumerate(templates):
            regions[index] = replace(regions[index], template=template)
    return tuple(regions)
