"""Regions: where a map is above the threshold, in pixels of the source image."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.imaging import View
from blemish.verdict import Region, find_regions


def spots(*boxes: tuple[int, int, int, int, float]) -> np.ndarray:
    """A map [32, 32] of zeros with rectangles (x, y, w, h, value)."""
    made = np.zeros((32, 32), np.float32)
    for x, y, width, height, value in boxes:
        made[y : y + height, x : x + width] = value
    return made


def test_none_below_the_threshold() -> None:
    """A map that reaches the threshold but does not exceed it has no region."""
    assert find_regions(spots((4, 4, 3, 3, 1.0)), 1.0, view=View(32), source_size=(32, 32)) == ()


def test_boxes_areas_and_peaks() -> None:
    """Each region has its tight box, its pixel count and its own maximum; the worst comes first."""
    found = find_regions(
        spots((2, 3, 4, 5, 2.0), (20, 10, 6, 1, 3.0)), 1.0, view=View(32), source_size=(32, 32)
    )
    assert found == (Region((20, 10, 6, 1), 6, 3.0), Region((2, 3, 4, 5), 20, 2.0))


def test_peak_belongs_to_its_own_region() -> None:
    """A higher peak inside another region's box is not counted for the region around it."""
    ring = spots((4, 4, 9, 9, 2.0))
    ring[5:12, 5:12] = 0
    ring[8, 8] = 5.0
    found = find_regions(ring, 1.0, view=View(32), source_size=(32, 32))
    assert [(region.peak, region.area) for region in found] == [(5.0, 1), (2.0, 32)]


def test_touching_corners_connect() -> None:
    """Pixels that meet at a corner are one region."""
    found = find_regions(
        spots((4, 4, 1, 1, 2.0), (5, 5, 1, 1, 2.0)), 1.0, view=View(32), source_size=(32, 32)
    )
    assert found == (Region((4, 4, 2, 2), 2, 2.0),)


@pytest.mark.parametrize("source", [(64, 96), (320, 32), (16, 16)])
def test_scaled_to_the_source(source: tuple[int, int]) -> None:
    """Boxes and areas are in the source's pixels, however it was squeezed into the view."""
    height, width = source
    (found,) = find_regions(spots((8, 16, 4, 8, 2.0)), 1.0, view=View(32), source_size=source)
    assert found.box == (8 * width // 32, height // 2, 4 * width // 32, height // 4)
    assert found.area == 32 * height * width // 32**2


def test_a_tiny_source_still_has_a_pixel() -> None:
    """A region smaller than one source pixel is one pixel, not none."""
    (found,) = find_regions(spots((31, 31, 1, 1, 2.0)), 1.0, view=View(32), source_size=(4, 4))
    assert found == Region((3, 3, 1, 1), 1, 2.0)


def test_json_has_the_contract_keys() -> None:
    """A region's JSON object is box, area and peak."""
    region = Region((1, 2, 3, 4), 5, 6.0)
    assert region.to_dict() == {"box": [1, 2, 3, 4], "area": 5, "peak": 6.0}
