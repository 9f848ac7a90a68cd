"""Regions: where a map is above the threshold, in pixels of the source image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from blemish.imaging import Seen
from blemish.verdict import Region, find_regions


def spots(*boxes: tuple[int, int, int, int, float]) -> np.ndarray:
    """A map [32, 32] of zeros with rectangles (x, y, w, h, value)."""
    made = np.zeros((32, 32), np.float32)
    for x, y, width, height, value in boxes:
        made[y : y + height, x : x + width] = value
    return made


def test_none_below_the_threshold() -> None:
    """A map that reaches the threshold but does not exceed it has no region."""
    assert find_regions(spots((4, 4, 3, 3, 1.0)), 1.0, place=Seen.whole(32, (32, 32))) == ()


def test_boxes_areas_and_peaks() -> None:
    """Each region has its tight box, its pixel count and its own maximum; the worst comes first."""
    found = find_regions(
        spots((2, 3, 4, 5, 2.0), (20, 10, 6, 1, 3.0)), 1.0, place=Seen.whole(32, (32, 32))
    )
    assert found == (Region((20, 10, 6, 1), 6, 3.0), Region((2, 3, 4, 5), 20, 2.0))


def test_peak_belongs_to_its_own_region() -> None:
    """A higher peak inside another region's box is not counted for the region around it."""
    ring = spots((4, 4, 9, 9, 2.0))
    ring[5:12, 5:12] = 0
    ring[8, 8] = 5.0
    found = find_regions(ring, 1.0, place=Seen.whole(32, (32, 32)))
    assert [(region.peak, region.area) for region in found] == [(5.0, 1), (2.0, 32)]


def test_touching_corners_connect() -> None:
    """Pixels that meet at a corner are one region."""
    found = find_regions(
        spots((4, 4, 1, 1, 2.0), (5, 5, 1, 1, 2.0)), 1.0, place=Seen.whole(32, (32, 32))
    )
    assert found == (Region((4, 4, 2, 2), 2, 2.0),)


@pytest.mark.parametrize("source", [(64, 96), (320, 32), (16, 16)])
def test_scaled_to_the_source(source: tuple[int, int]) -> None:
    """Boxes and areas are in the source's pixels, however it was squeezed into the view."""
    height, width = source
    (found,) = find_regions(spots((8, 16, 4, 8, 2.0)), 1.0, place=Seen.whole(32, source))
    assert found.box == (8 * width // 32, height // 2, 4 * width // 32, height // 4)
    assert found.area == 32 * height * width // 32**2


def test_a_tiny_source_still_has_a_pixel() -> None:
    """A region smaller than one source pixel is one pixel, not none."""
    (found,) = find_regions(spots((31, 31, 1, 1, 2.0)), 1.0, place=Seen.whole(32, (4, 4)))
    assert found == Region((3, 3, 1, 1), 1, 2.0)


def test_a_threshold_between_two_floats_loses_no_pixel() -> None:
    """A pixel just above a threshold set by hand is found, as its score fails the part."""
    value = float(np.float32(0.3))
    assert value > 0.3
    (found,) = find_regions(spots((4, 4, 1, 1, 0.3)), 0.3, place=Seen.whole(32, (32, 32)))
    assert found.peak == value
    assert find_regions(spots((4, 4, 1, 1, 0.3)), value, place=Seen.whole(32, (32, 32))) == ()
    assert find_regions(spots((4, 4, 1, 1, 0.3)), 1e300, place=Seen.whole(32, (32, 32))) == ()


def test_templates_are_looked_up_at_the_worst_peaks() -> None:
    """The lookup is asked once, for the worst five regions at their peaks in the view."""
    asked: list[tuple[int, int]] = []

    def nearest(points: Sequence[tuple[int, int]]) -> list[str | None]:
        asked.extend(points)
        return [None if x == 12 else f"template {x},{y}" for x, y in points]

    made = spots(*((4 * index, 8, 3, 3, 2.0 + index) for index in range(7)))
    made[9, 25] = 8.5  # inside the worst region but one
    found = find_regions(made, 1.0, place=Seen.whole(32, (64, 64)), nearest=nearest)
    assert asked == [(25, 9), (20, 8), (16, 8), (12, 8), (8, 8)]
    assert [region.peak for region in found] == [8.5, 7, 6, 5, 4, 3, 2]
    assert [region.template for region in found] == [
        "template 25,9",
        "template 20,8",
        "template 16,8",
        None,
        "template 8,8",
        None,
        None,
    ]


def test_without_regions_nothing_is_looked_up() -> None:
    """A part that passes costs no lookup."""

    def never(points: Sequence[tuple[int, int]]) -> list[str | None]:
        raise AssertionError(points)

    assert find_regions(spots(), 1.0, place=Seen.whole(32, (32, 32)), nearest=never) == ()


def test_json_has_the_contract_keys() -> None:
    """A region's JSON object is box, area, peak and template."""
    region = Region((1, 2, 3, 4), 5, 6.0)
    assert region.to_dict() == {"box": [1, 2, 3, 4], "area": 5, "peak": 6.0, "template": None}
